"""`bench sharing` on a few small frames: the policies read what they say they read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.bench import command, sharing
from jobs.bench.clips import clips_below, first_frames
from jobs.demo.demo import TRUTH
from pipeline.errors import SpecError


@pytest.fixture(scope="module")
def videos() -> dict[str, np.ndarray]:
    frames = sharing._centre(first_frames(TRUTH, 10), 64)
    sharer = sharing._Sharer(frames)
    try:
        made = {policy: sharer.render(policy) for policy in sharing.POLICIES}
        made["again"] = sharer.render("knots")
    finally:
        sharer.close()
    return made


def test_every_policy_makes_another_video_and_makes_it_again(videos: dict[str, np.ndarray]) -> None:
    again = videos["again"]
    assert np.array_equal(videos["knots"], again)
    for policy in sharing.POLICIES[1:]:
        assert not np.array_equal(videos[policy], videos["independent"]), policy


def test_the_first_frame_of_a_chunk_reads_nothing(videos: dict[str, np.ndarray]) -> None:
    for first in (0, sharing.INTERVAL):
        assert np.array_equal(videos["chunk_first"][first], videos["independent"][first])
    assert not np.array_equal(videos["chunk_first"][1], videos["independent"][1])


def test_hard_and_hat_weights_agree_on_knots_and_differ_between(videos: dict[str, np.ndarray]) -> None:
    soft, hard = videos["knots"], videos["knots_hard"]
    assert np.array_equal(soft[sharing.INTERVAL], hard[sharing.INTERVAL])
    assert not np.array_equal(soft[3], hard[3])


def test_a_folder_without_clips_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no clip"):
        command.command("sharing", False, True, tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert clips_below(tmp_path) == [tmp_path / "a.mp4"]
    with pytest.raises(SpecError, match=r"a\.mp4"):
        command.command("sharing", False, True, tmp_path)
