"""Comparison clips: the right frames of the right video, side by side or divided."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.compare import chosen, composed
from pipeline.errors import SpecError
from pipeline.manifest import VideoRow, create_done_row
from tests.jobs.media import done_row, published_store, write_clip

RUNNER = CliRunner()


def read(path: Path) -> tuple[list[Fraction], np.ndarray]:
    with av.open(str(path)) as made:
        frames = list(made.decode(video=0))
        assert frames
        times = [frame.pts * frame.time_base for frame in frames]
        return times, np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def test_a_clip_shows_source_and_output_of_the_same_frames_beside_each_other(tmp_path: Path) -> None:
    published_store(tmp_path / "out")
    made = tmp_path / "new" / "clip.mp4"
    done = RUNNER.invoke(
        app, ["compare", str(tmp_path / "out"), "--to", str(made), "--at", "0.16", "--seconds", "0.2"]
    )
    assert done.exit_code == 0, done.stderr
    times, frames = read(made)
    assert times == [Fraction(n, 25) for n in range(5)]
    assert frames.shape == (5, 48, 64 + 4 + 64, 3)
    for n, frame in enumerate(frames, start=4):
        assert abs(float(np.median(frame[:, :60])) - 10 * n) < 8
        assert abs(float(np.median(frame[:, -60:])) - (10 * n + 40)) < 8
    assert [path.name for path in made.parent.iterdir()] == ["clip.mp4"]


def test_a_divided_picture_has_the_source_on_the_left_and_a_line_between() -> None:
    before, after = np.full((8, 10, 3), 10, np.uint8), np.full((17, 21, 3), 200, np.uint8)
    both = composed(before, after, "split")
    assert both.shape == (16, 20, 3)
    assert (both[:, :9] == 10).all()
    assert (both[:, 9:11] == 255).all()
    assert (both[:, 11:] == 200).all()
    assert composed(before, after, "side").shape == (16, 44, 3)


def test_an_enlarged_output_is_compared_at_its_own_size(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    write_clip(tmp_path / "in" / "b.mp4", width=32, height=24)
    write_clip(tmp_path / "out" / "videos" / "b.mp4")
    create_done_row(store, done_row(store, tmp_path / "in" / "b.mp4", "videos/b.mp4", video_key="ef" * 32))
    made = tmp_path / "b.mkv"
    call = ["compare", str(tmp_path / "out"), "--video", "b.mp4", "--layout", "split", "--to", str(made)]
    done = RUNNER.invoke(app, call)
    assert done.exit_code == 0, done.stderr
    assert read(made)[1].shape == (12, 48, 64, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--video", "none.mp4"], "0 are called 'none.mp4'; give one of videos/a.mp4"),
        (["--at", "60"], "the video is 0.44 s long"),
        (["--to", "clip.txt"], "ends in .mp4, .mov or .mkv"),
        (["--to", "/proc/none/clip.mp4"], "cannot be written"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    published_store(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = RUNNER.invoke(app, ["compare", str(tmp_path / "out"), *options])
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_one_of_several_videos_must_be_named_and_none_done_is_said() -> None:
    rows = [VideoRow(f"/in/{n}/a.mp4", "k", "done", output_rel=f"videos/{n}/a.mp4") for n in (1, 2)]
    with pytest.raises(SpecError, match="which one is not said; give one of videos/1/a"):
        chosen(rows, None, "out")
    with pytest.raises(SpecError, match="2 are called"):
        chosen(rows, "a.mp4", "out")
    assert chosen(rows, "2/a.mp4", "out") is rows[1]
    with pytest.raises(SpecError, match="no video is done"):
        chosen([], None, "out")
