"""`bench consistency` on a few small frames: what policies read, and what rows and targets follow."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs.bench import command, consistency, consistency_length
from jobs.bench.clips import first_frames
from jobs.bench.consistency_policies import POLICIES, Clip, enhancer_of, render_chunks
from jobs.bench.consistency_strip import write_strip
from jobs.bench.consistency_tasks import tasks
from jobs.bench.style_scores import shrunk_square
from jobs.bench.video_memory import peak_kib
from jobs.demo.demo import TRUTH
from pipeline.errors import SpecError
from pipeline.settings import ConsistencySettings

HOW = ConsistencySettings(knot_every=4, knots_per_chunk=1, anchors=2)
BY_NAME = {policy.name: policy for policy in POLICIES}
DENOISE = next(task for task in tasks(quick=True) if task.name == "denoise")


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return DENOISE.degrade(shrunk_square(first_frames(TRUTH, 11), 32))


def render(name: str, frames: np.ndarray, how: ConsistencySettings = HOW) -> list[np.ndarray]:
    asked: list[int] = []

    def some(ordinals: Sequence[int]) -> np.ndarray:
        asked.append(len(ordinals))
        return frames[list(ordinals)]

    policy = BY_NAME[name]
    enhancer = enhancer_of(policy, DENOISE.enhance, how, {})
    try:
        clip = Clip("clip", len(frames), some)
        made = list(render_chunks(enhancer, clip, replace(how, **policy.settings)))
    finally:
        enhancer.close()
    assert max(asked) <= how.knot_every * how.knots_per_chunk + 1
    return made


@pytest.fixture(scope="module")
def videos(noisy: np.ndarray) -> dict[str, np.ndarray]:
    names = [name for name, policy in BY_NAME.items() if not policy.of_noise]
    return {name: np.concatenate(render(name, noisy)) for name in names}


def test_every_policy_gives_every_frame_once_and_a_video_of_its_own(
    videos: dict[str, np.ndarray], noisy: np.ndarray
) -> None:
    for name, video in videos.items():
        assert video.shape == noisy.shape, name
    distinct = {video.tobytes() for video in videos.values()}
    assert len(distinct) == len(videos)


def test_the_default_gives_the_same_pictures_whatever_the_chunks(
    videos: dict[str, np.ndarray], noisy: np.ndarray
) -> None:
    chunks = render("knots", noisy, replace(HOW, knots_per_chunk=2))
    assert [len(chunk) for chunk in chunks] == [8, 3]
    assert np.array_equal(np.concatenate(chunks), videos["knots"])


def test_per_chunk_sharing_begins_anew_with_every_chunk(
    videos: dict[str, np.ndarray], noisy: np.ndarray
) -> None:
    for name in ("chunk_first", "chunk_joint"):
        other = np.concatenate(render(name, noisy, replace(HOW, knots_per_chunk=2)))
        assert np.array_equal(other[:1], videos[name][:1]) == (name == "chunk_first")
        assert not np.array_equal(other[4:8], videos[name][4:8]), name
    firsts = [0, 4, 8]
    assert np.array_equal(videos["chunk_first"][firsts], videos["independent"][firsts])


def test_clips_are_shrunk_to_a_square_of_their_middle() -> None:
    frames = np.zeros((2, 20, 60, 3), np.uint8)
    frames[:, :, 20:40] = 255
    square = shrunk_square(frames, 10)
    assert square.shape == (2, 10, 10, 3)
    assert (square == 255).all()


def test_the_target_compares_the_default_with_the_source_and_rows_with_independent_frames() -> None:
    rows = [
        {"policy": "source", "boundary": 1.0, "at knots": 1.0},
        {"policy": "independent", "boundary": 1.2, "at knots": None},
        {"policy": "knots", "boundary": 1.5, "at knots": 1.1, "boundary / source": 1.5},
    ]
    consistency._compare(rows)
    assert rows[2]["boundary / independent"] == pytest.approx(1.25)
    assert rows[2]["at knots / independent"] is None
    for index, holds in ((1.5, False), (1.06, False), (1.05, True), (0.9, True)):
        rows[2]["boundary / source"] = index
        (target,) = consistency._targets("clip", "task", rows)
        assert target.holds == holds
    rows[2]["boundary / source"] = None
    assert consistency._targets("clip", "task", rows) == []


def test_the_bench_measures_the_bundled_clip_and_draws_its_border(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(BY_NAME[name] for name in ("independent", "chunk_first", "knots"))
    monkeypatch.setattr(consistency, "POLICIES", few)
    monkeypatch.setattr(consistency, "QUICK", consistency._Size(9, 32, 4))
    quick = consistency.tasks(True)
    monkeypatch.setattr(consistency, "tasks", lambda quick_: (replace(DENOISE, style=False), quick[0]))
    result = consistency.run(True, figures=tmp_path)
    assert [(row["task"], row["policy"]) for row in result.rows] == [
        *[("denoise", name) for name in ("source", "degraded", "independent", "chunk_first", "knots")],
        *[("stylize", name) for name in ("source", "independent", "chunk_first", "knots")],
    ]
    by_name = {(row["task"], row["policy"]): row for row in result.rows}
    assert by_name["denoise", "knots"]["E_warp_x1e3"] < by_name["denoise", "degraded"]["E_warp_x1e3"]
    assert by_name["stylize", "knots"]["lab"] < by_name["stylize", "source"]["lab"]
    assert by_name["denoise", "source"]["grad_ssim"] == 1
    assert by_name["denoise", "knots"]["E_warp@16"] is None
    assert len({tuple(row) for row in result.rows}) == 1
    assert len(result.targets) == 2
    assert (tmp_path / "consistency_bbb.png").exists()


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no clip"):
        command.command("consistency", False, True, tmp_path)


def test_the_strip_marks_the_pair_across_the_border_and_shows_a_step_there(tmp_path: Path) -> None:
    still = shrunk_square(first_frames(TRUTH, 1), 48).repeat(8, 0)
    stepped = still // 2 + 60
    stepped[4:] += 4
    write_strip(tmp_path / "new" / "strip.png", still, {"stepped": stepped}, 4)
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "strip.png")), cv2.COLOR_BGR2RGB)
    marked = np.nonzero((sheet == (220, 40, 40)).all(-1).any(0))[0]
    # Six frames of 48 + 4 pixels, five changes between them; the third pair is across.
    assert sheet.shape[1] == 4 + 6 * 52
    assert marked.min() >= 4 + 2 * 52 + 26 - 4
    assert marked.max() < 4 + 3 * 52 + 26
    below = sheet[-30, 4 + 26 + 24 :: 52][:5]
    assert [int(pixel.mean()) for pixel in below] == [128, 128, 128 + 16 * 4, 128, 128]


def test_a_clip_of_any_length_is_a_function_of_ordinals() -> None:
    some = consistency_length.noisy([5, 1000, 2999])
    assert some.shape == (3, consistency_length.HEIGHT, consistency_length.WIDTH, 3)
    assert np.array_equal(consistency_length.noisy([1000])[0], some[1])
    clean = consistency_length.wandering([0, 1, 94, 95, 96, 500])
    steps = np.abs(np.diff(clean.astype(int), axis=0)).mean((1, 2, 3))
    assert (steps > 0).all()
    noise = (some[0].astype(float) - consistency_length.wandering([5])[0]) / 255
    assert noise.std() == pytest.approx(0.1, rel=0.15)


def test_length_is_measured_in_a_process_of_its_own() -> None:
    (row,) = consistency_length.length_rows([33])
    assert row["frames"] == 33
    assert row["peak_mib"] >= row["before_mib"] > 100
    assert row["s/frame"] > 0
    assert row["E_warp@16"] > 0
    held, missed = consistency_length.length_targets(
        [{**row, "peak_mib": 100.0, "s/frame": 0.1}, {**row, "peak_mib": 105.0, "s/frame": 0.2}]
    )
    assert held.holds
    assert not missed.holds


def test_the_peak_of_memory_begins_anew() -> None:
    if not consistency_length.reset_peak():
        pytest.skip("/proc/self/clear_refs cannot be written here")
    # Mapped by itself: the allocator may serve an array from memory that it has kept, and keep it again.
    block = mmap.mmap(-1, 64 * 2**20)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    high = peak_kib()
    block.close()
    assert consistency_length.reset_peak()
    assert peak_kib() < high - 32 * 1024
