"""A disk that is full, for real: a small file system as the output."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline.graph
from pipeline.errors import RunError, StoreError
from pipeline.lease import LeaseTimes, hold_lease
from pipeline.manifest import read_video_rows
from pipeline.store import Store
from pipeline.video.verify import measure
from tests.pipeline.graph.jobs import identity_job, run
from tests.pipeline.video.media import Clip, make_clip

pytestmark = pytest.mark.usefixtures("ray_here")


def mount(folder: Path, *options: str) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "none", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small file system takes rights that this user does not have")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "-o", "size=200k")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_run_with_a_sentence_publishes_nothing_and_a_rerun_completes(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process outlives its first run, whose lease could not be given back for want of room.
    at_once = functools.partial(hold_lease, times=LeaseTimes(expiry=0.0))
    monkeypatch.setattr(pipeline.graph, "hold_lease", at_once)
    source = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 40 * 512, 512), width=256, height=192))
    job = identity_job(source, small_disk / "out")
    with pytest.raises((RunError, StoreError), match=r"No space left on device.*free space") as caught:
        run(job)
    assert "run" in str(caught.value)
    store = Store(job.output)
    assert store.list("videos") == []
    assert read_video_rows(store) == [], "a full disk is no video's fault"

    mount(small_disk, "-o", "remount,size=20m")
    summary = run(job)
    assert (summary.done, summary.quarantined) == (1, 0)
    assert measure(str(small_disk / "out" / "videos" / "a.mp4")).frames == 40
