"""`reelweave preview`: a sheet of a few frames under several strengths, made here and published nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main
import yaml

from jobs import preview
from jobs.cli import app
from jobs.preview_sheet import GAP, TEXT, WIDTH
from pipeline.errors import SpecError
from tests.pipeline.films import write_film
from tests.pipeline.graph.jobs import write_style
from tests.pipeline.test_enhancer import clip

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def write_job(folder: Path, *enhance: dict[str, Any], **members: Any) -> Path:
    write_film(folder / "a.mkv", clip(6))
    write_style(folder / "style.png")
    style = {"reference": str(folder / "style.png"), "method": {"steps": 4}, "strength": 1.0}
    data = {
        "name": "look",
        "source": str(folder / "*.mkv"),
        "output": str(folder / "out"),
        "enhance": list(enhance) or [{"stylize": style}],
        **members,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(data))
    return folder / "job.yaml"


def shown(capsys: pytest.CaptureFixture[str], job: Path, *, code: int = 0, **options: Any) -> dict[str, Any]:
    asked = {"video": None, "at": None, "frames": 1, "strengths": "1", **options}
    out = job.parent / "sheets"
    assert preview.command(job, [], out=out, as_json=True, **asked) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_sheet_has_a_row_per_frame_and_a_column_per_strength_and_nothing_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((32, 48), np.uint8)
    mask[:, :8] = 255
    cv2.imwrite(str(tmp_path / "keep.png"), mask)
    own = [{"video": "a.mkv", "set": {"enhance.0.stylize.keep.feather": 2}}]
    style = {"reference": str(tmp_path / "style.png"), "keep": str(tmp_path / "keep.png"), "strength": 1.0}
    found = shown(capsys, write_job(tmp_path, {"stylize": style}, scenes=own), frames=2, strengths="1,0.4")
    assert [row["frame"] for row in found["rows"]] == [1, 4]
    for row in found["rows"]:
        assert [cell["strength"] for cell in row["cells"]] == [0.4, 1.0]
        assert [cell["job"] for cell in row["cells"]] == [False, True]
        assert row["cells"][1]["style_distance"] < row["style_distance_before"]
        assert row["cells"][1]["gradient_ssim"] < row["cells"][0]["gradient_ssim"] < 1
    sheet = cv2.imread(found["picture"])
    assert sheet.shape == (2 * (2 * TEXT + round(WIDTH * 32 / 48) + GAP), 3 * (WIDTH + GAP), 3)
    page = Path(found["page"]).read_text()
    assert page.count("<img") == 6
    assert "http" not in page
    assert not (tmp_path / "out").exists()


def test_frames_from_a_time_on_are_consecutive_and_restorations_have_one_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denoise = {"restore": {"degradation": {"kind": "denoise", "noise": 0.05}}}
    found = shown(capsys, write_job(tmp_path, denoise), at=0.07, frames=2)
    assert [(row["frame"], row["seconds"]) for row in found["rows"]] == [(2, 0.08), (3, 0.12)]
    assert [cell["strength"] for row in found["rows"] for cell in row["cells"]] == [None, None]
    late = shown(capsys, write_job(tmp_path, denoise), at=9.0, code=1)
    assert late["rejected"][0]["code"] == "no_frame"
    assert "at 0.200 s" in late["rejected"][0]["error"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"strengths": "0.5,2"}, "--strengths"),
        ({"strengths": "much"}, "--strengths"),
        ({"at": -1.0}, "--at"),
        ({"video": "other.mkv"}, "--video"),
    ],
)
def test_bad_options_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        shown(capsys, write_job(tmp_path), **options)
    assert caught.value.field == field


def test_jobs_of_which_single_frames_say_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blur = {"restore": {"degradation": {"kind": "temporal_blur", "taps": 3, "noise": 0.0}}}
    coupled = write_job(tmp_path, blur, consistency={"sharing": "none"})
    with pytest.raises(SpecError, match="restores frames together"):
        shown(capsys, coupled)
    empty = yaml.safe_load(coupled.read_text()) | {"enhance": []}
    coupled.write_text(yaml.safe_dump(empty))
    with pytest.raises(SpecError, match="nothing to preview"):
        shown(capsys, coupled)


def test_the_options_that_the_readme_names_exist() -> None:
    lines = re.findall(r"`reelweave preview [^`]*`", README)
    command = typer.main.get_command(app).commands["preview"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    named = {option for line in lines for option in re.findall(r"--[a-z]+", line)}
    assert named <= known
    assert {"--video", "--at", "--frames", "--strengths"} <= named
