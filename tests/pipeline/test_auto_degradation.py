"""``degradation: auto``: each video is looked at once, and what is found takes its place in the plan."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.plan import plan_json
from jobs.spec import parse_spec
from pipeline.auto_degradation import LIMITS_OF_AUTO, described, looked_at, resolved, wants_estimate
from pipeline.commit import ChunkStore
from pipeline.errors import SpecError
from pipeline.estimates import Estimate
from pipeline.job_keys import JobKeys
from pipeline.job_plan import plan_job
from pipeline.job_warnings import estimate_warnings, job_warnings
from pipeline.manifest import VideoRow
from pipeline.settings import JobSettings
from pipeline.settled import keys_of_row
from pipeline.steps import sources
from pipeline.steps.sources import estimate_source, index_source
from pipeline.store import Store
from tests.operators.estimation.scenes import blurred, noisy, pan, with_logo
from tests.pipeline.direct import context_of, unguarded
from tests.pipeline.films import write_film
from tests.support.shared import shared_dir

AUTO = {"restore": {"degradation": "auto"}}
FILM = pan(96, 144, 8, 3)


def job(source: str, output: Path, *enhance: dict[str, Any], **changes: Any) -> JobSettings:
    data = {"name": "auto", "source": source, "output": str(output), "enhance": list(enhance or (AUTO,))}
    return parse_spec({**data, **changes}).to_settings()


def test_frames_are_taken_from_all_over_a_video_each_once_and_fewer_when_they_are_large() -> None:
    for frames, size in itertools.product((1, 5, 24, 25, 1000), ((160, 90), (1920, 1080), (7680, 4320))):
        found = looked_at(frames, *size)
        assert found == sorted(set(found))
        assert found[0] >= 0
        assert found[-1] < frames
        assert len(found) <= min(frames, 24)
    assert looked_at(48, 160, 90) == list(range(1, 48, 2))
    assert len(looked_at(1000, 3840, 2160)) == 8
    assert len(looked_at(1000, 7680, 4320)) == 6


def test_an_estimate_takes_the_place_of_the_word_and_keeps_solver_and_neighbours() -> None:
    style = {"stylize": {"reference": "a.png"}}
    auto = {"restore": {"degradation": {"kind": "auto"}, "solver": {"name": "diffpir"}}}
    noise = {"kind": "denoise", "noise": 0.04}
    hole = {"kind": "inpainting", "boxes": [[1, 2, 3, 4]], "noise": 0.04}
    found = resolved((auto, style), (hole, noise))
    assert found.origins == (0, 0, 1)
    assert [item.get("restore", {}).get("degradation") for item in found.items] == [hole, noise, None]
    assert found.items[1]["restore"]["solver"] == {"name": "diffpir"}
    assert resolved((auto, style), ()).items == (style,)
    assert resolved((auto,), ()).origins == ()
    assert wants_estimate((style, auto))
    assert not wants_estimate((style,))


def test_the_plan_says_per_video_what_was_found_and_writes_nothing(tmp_path: Path) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    soft = np.stack([blurred(frame, 2.0) for frame in FILM])
    damaged = with_logo(noisy(pan(200, 300, 12, 7), 10.0, 1), (120, 60, 60, 34))
    films = {"clean": FILM, "soft": soft, "damaged": damaged, "still": np.repeat(FILM[:1], 8, axis=0)}
    for name, frames in films.items():
        write_film(sources / f"{name}.mkv", frames)
    plan = plan_job(job(f"{sources}/*.mkv", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert plan.rejected == ()
    assert LIMITS_OF_AUTO in plan.warnings
    found = {Path(uri).stem: estimate for uri, estimate in plan.auto.items()}
    assert found["clean"]["degradations"] == []
    assert "nothing is restored" in described(found["clean"])
    (deblur,) = found["soft"]["degradations"]
    assert (deblur["kind"], deblur["sigma"]) == ("deblur", pytest.approx(2.0, rel=0.2))
    hole, denoise = found["damaged"]["degradations"]
    assert hole["kind"] == "inpainting"
    assert denoise == {"kind": "denoise", "noise": pytest.approx(10.0 / 255.0, rel=0.15)}
    assert any("cannot be told" in warning for warning in found["still"]["warnings"])
    assert plan_json(plan)["auto"] == plan.auto
    assert plan_job(job(f"{sources}/*.mkv", tmp_path / "out")) == plan


def test_frames_too_small_to_tell_are_rejected_with_what_to_do(tmp_path: Path) -> None:
    write_film(tmp_path / "tiny.mkv", FILM[:, :24, :40])
    (refused,) = plan_job(job(f"{tmp_path}/*.mkv", tmp_path / "out")).rejected
    assert refused.code == "enhance_refused"
    assert "40x24" in refused.error
    assert "say in the job how they are degraded" in refused.error


def test_a_video_is_looked_at_once_and_the_plan_reads_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_film(tmp_path / "film.mkv", noisy(FILM, 10.0, 1))
    settings = job(source, tmp_path / "out")
    unguarded(monkeypatch)
    looks: list[str] = []

    def counted(path: str, index: Any) -> dict[str, Any]:
        looks.append(path)
        return estimate(path, index)

    estimate = sources.estimate_video
    monkeypatch.setattr(sources, "estimate_video", counted)
    context = context_of(settings)
    row = index_source({"uri": source}, context)
    assert estimate_source(row, context) == row
    assert estimate_source(row, context) == row
    assert looks == [source]
    before = set(Path(tmp_path / "out").rglob("*"))
    plan = plan_job(settings)
    assert set(Path(tmp_path / "out").rglob("*")) == before
    assert plan == plan_job(dataclasses.replace(settings, output=str(tmp_path / "other")))
    assert ChunkStore(Store(settings.output, settings.storage)).lookup(row["index_key"]) is not None


def test_a_real_clip_gets_a_plan_and_what_it_does_not_tell_is_said(tmp_path: Path) -> None:
    plan = plan_job(job(str(shared_dir() / "media" / "clips" / "truck_512_10fps.mp4"), tmp_path / "out"))
    (estimate,) = plan.auto.values()
    assert plan.rejected == ()
    assert {stage["kind"] for stage in estimate["degradations"]} <= {"inpainting", "deblur", "denoise"}
    assert estimate["degradations"] or estimate["warnings"]


def test_a_solver_that_needs_more_than_an_estimate_gives_is_refused() -> None:
    with pytest.raises(SpecError, match="blind_dps needs a blur given by its kernel"):
        job("in", Path("out"), {"restore": {"degradation": "auto", "solver": {"name": "blind_dps"}}})


@pytest.mark.parametrize(
    ("solver", "kind", "idle"),
    [
        ({"name": "dpir"}, "denoise", True),
        ({"name": "dpir", "steps": 2}, "denoise", False),
        ({"name": "dpir"}, "shot_noise", False),
        ({"name": "diffpir", "steps": 5, "strength": 0.3}, "denoise", True),
        ({"name": "diffpir", "steps": 10, "strength": 0.3}, "denoise", False),
        ({"name": "diffpir"}, "denoise", False),
        ({"name": "cddb", "steps": 1, "checkpoint": "bridge"}, "denoise", True),
        ({"name": "cddb", "steps": 2, "checkpoint": "bridge"}, "denoise", False),
    ],
)
def test_fusion_that_changes_nothing_is_said_before_a_job_runs(
    solver: dict[str, Any], kind: str, idle: bool
) -> None:
    degradation: dict[str, Any] = {"kind": kind, **({"noise": 0.1} if kind == "denoise" else {"peak": 50.0})}
    item = {"restore": {"degradation": degradation, "solver": solver}}
    fused = job("in", Path("out"), item, consistency={"fusion": 0.5})
    assert any("fusion has no effect on enhance.0" in text for text in job_warnings(fused)) == idle
    assert job_warnings(job("in", Path("out"), item)) == ()


def test_fusion_is_judged_by_what_was_found_in_each_video() -> None:
    fused = job("in", Path("out"), AUTO, consistency={"fusion": 0.5})
    assert not any("fusion" in text for text in job_warnings(fused))
    found = {
        "noise": {"kind": "denoise", "noise": 0.04},
        "blur": {"kind": "deblur", "kernel": "gaussian", "sigma": 2.0, "noise": 0.04},
    }
    told = {}
    for name, degradation in found.items():
        facts = {"undecided": ["blur: unclear"], "degradations": [degradation]}
        told[name] = estimate_warnings(fused, Estimate(facts, resolved(fused.enhance, [degradation])))
    assert told["blur"] == ("degradation auto: blur: unclear",)
    assert told["noise"][0] == told["blur"][0]
    assert "no effect on enhance.0 (denoise), which goes one network step" in told["noise"][1]
    assert estimate_warnings(fused, None) == ()


def test_a_published_row_says_which_result_an_auto_job_would_make_of_its_source() -> None:
    keys = JobKeys(job("in", Path("out"), AUTO), "weights", "cpu")
    found = {"kind": "denoise", "noise": 0.0471}
    row = VideoRow("a.mp4", "", "done", metrics={"estimate": {"degradations": [found]}})
    own = keys_of_row(row, keys)
    assert own is not None
    expected = dataclasses.replace(keys, resolved=resolved(keys.settings.enhance, [found]).items)
    assert own.video("digest", "mp4") == expected.video("digest", "mp4") != keys.video("digest", "mp4")
    assert keys_of_row(dataclasses.replace(row, metrics={}), keys) is None
    named = JobKeys(job("in", Path("out"), {"restore": {"degradation": found}}), "weights", "cpu")
    assert keys_of_row(row, named) is named
