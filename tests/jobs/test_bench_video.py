"""`bench video` on tiny clips: what its figures mean, not how large they are."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from jobs.bench import command, video_plain
from jobs.bench.race import Lap, Race, race
from jobs.bench.video_borders import luma_psnr, measure_borders
from jobs.bench.video_chain import identity_job
from jobs.bench.video_clips import KEY_EVERY, Moving, moving_pictures, write_moving
from jobs.bench.video_colour import (
    Tags,
    all_tags,
    colour_rows,
    colour_targets,
    loss,
    our_trip,
    planes,
    retagged,
)
from jobs.bench.video_memory import memory_targets, peak_kib
from jobs.bench.video_speed import speed_rows, speed_targets
from pipeline.errors import SpecError
from pipeline.settings import EncodeSettings, Limits
from pipeline.video.encoders import plan_encoder
from pipeline.video.index import build_index

FAST = EncodeSettings(preset="ultrafast")
TINY = Moving(64, 48, 20)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_moving(tmp_path_factory.mktemp("clip") / "tiny.mp4", TINY)


def _picture(pix_fmt: str = "yuv420p") -> VideoFrame:
    return VideoFrame.from_ndarray(next(moving_pictures(TINY)), "yuv420p").reformat(format=pix_fmt)


def test_a_made_clip_has_its_frames_moves_and_is_the_same_again(tiny: str) -> None:
    index = build_index(tiny, tiny, Limits(), "")
    assert (index.frames, index.average_rate, index.colour.matrix) == (20, Fraction(25), 1)
    first, second, *_ = pictures = list(moving_pictures(TINY))
    assert first.shape == (72, 64)
    assert not np.array_equal(first, second)
    assert all(np.array_equal(a, b) for a, b in zip(pictures, moving_pictures(TINY), strict=True))


def test_the_texture_does_not_run_out_however_long_the_clip_is() -> None:
    *_, last = moving_pictures(Moving(16, 16, 300))
    assert last.shape == (24, 16)
    assert KEY_EVERY < 300


def test_a_ratio_is_the_median_of_neighbours_and_not_of_all() -> None:
    # The machine is four times slower in the second repeat; neighbours see the same.
    ours, plain = (Lap(2, 2), Lap(8, 8), Lap(3, 3)), (Lap(1, 1), Lap(4, 4), Lap(1, 2))
    found = Race(ours, plain)
    assert (found.ours_seconds, found.plain_seconds) == (3, 1)
    assert found.ratio == 2
    assert found.cpu_ratio == 2


def test_both_run_as_often_and_take_turns_in_going_first() -> None:
    calls: list[str] = []
    result = race(lambda: calls.append("ours"), lambda: calls.append("plain"), 3)
    assert calls == ["ours", "plain", "plain", "ours", "ours", "plain"]
    assert len(result.ours) == len(result.plain) == 3


def test_targets_are_set_for_stages_and_turn_ratios_over() -> None:
    rows = tuple({"clip": "a", "stage": stage, "ratio": 1.25} for stage in ("index", "verify", "encode"))
    index, encode = speed_targets(rows)
    assert (index.value, index.bound, index.holds) == (0.8, 0.769, True)
    assert "encode" in encode.name
    assert not speed_targets(({"clip": "a", "stage": "decode", "ratio": 1.4},))[0].holds


def test_every_stage_of_a_tiny_clip_is_raced(tiny: str) -> None:
    rows = speed_rows(tiny, FAST, 1)
    assert [row["stage"] for row in rows] == [
        "index", "decode", "decode to RGB", "encode", "assemble", "verify", "whole chain",
    ]  # fmt: skip
    assert all(row["clip"] == "tiny" and row["ours_s"] > 0 and row["ratio"] > 0 for row in rows)


def test_the_plain_encoder_closes_groups_of_pictures_as_often_as_ours(tiny: str, tmp_path: Path) -> None:
    index = build_index(tiny, tiny, Limits(), "")
    plan = plan_encoder(index, FAST, 64, 48)
    path = str(tmp_path / "plain.mkv")
    video_plain.encode_all(path, video_plain.decode(tiny), plan, 8)
    made = build_index(path, path, Limits(), "")
    assert made.frames == 20
    assert [made.pts.index(pts) for pts in made.key_pts] == [0, 8, 16]


@pytest.mark.parametrize("through_rgb", [False, True])
def test_the_chain_makes_a_file_that_verifies(tiny: str, tmp_path: Path, through_rgb: bool) -> None:
    made = identity_job(tiny, tmp_path, FAST, through_rgb=through_rgb)
    assert video_plain.decode_all(made) == 20


def test_a_known_distortion_has_the_loss_that_was_put_in() -> None:
    source, made = _picture(), _picture()
    luma, blue, red = planes(made)
    luma[::2] += 2
    luma[0, 0] += 5
    blue += 1
    red += 1
    found = loss(source, made, 8)
    count = luma.size
    assert found.mean == pytest.approx(1 + 5 / count)
    assert found.shift == pytest.approx(1 + 5 / count)
    assert found.worst == 7
    assert found.chroma_psnr == pytest.approx(20 * math.log10(255))


def test_shifts_of_opposite_sign_cancel_and_errors_do_not() -> None:
    source, made = _picture(), _picture()
    luma = planes(made)[0]
    luma[::2] += 1
    luma[1::2] -= 1
    found = loss(source, made, 8)
    assert (found.mean, found.shift) == (1, 0)


@pytest.mark.parametrize("tags", all_tags(), ids=lambda tags: f"{tags.name} {tags.pix_fmt}")
def test_retagged_pictures_use_their_range_and_survive_our_path(tags: Tags) -> None:
    source = retagged(_picture(), tags)
    assert (source.format.name, int(source.colorspace)) == (tags.pix_fmt, tags.matrix)
    luma = planes(source)[0]
    assert 0.3 < luma.mean() / 2**tags.bits < 0.7
    if tags.bits == 10:
        assert set(np.unique(luma % 4)) == {0, 1, 2, 3}
    made = our_trip(source, tags, VideoReformatter())
    assert made.format.name == tags.pix_fmt
    assert loss(source, made, tags.bits).mean < 1


def test_colour_tables_hold_both_paths_and_the_default_one_is_worse() -> None:
    ours, default = colour_rows([_picture()])
    assert len(ours) == len(default) == 2 * len(all_tags())
    assert {row["generations"] for row in ours} == {1, 10}
    assert all(a["mean"] < b["mean"] for a, b in zip(ours, default, strict=True))


def test_the_worst_row_decides_about_colour() -> None:
    rows = [
        {"generations": 1, "mean": 0.01, "shift": 9.0},
        {"generations": 1, "mean": 0.1, "shift": 9.0},
        {"generations": 10, "mean": 9.0, "shift": -0.05},
    ]
    error, drift = colour_targets(rows)
    assert (error.value, error.holds) == (0.5, False)
    assert (drift.value, drift.holds) == (2.0, True)


def test_frames_are_sorted_by_their_place_in_a_segment() -> None:
    # Two segments of four frames and one of two: first, inside, inside, last.
    psnr = [50.0, 40, 40, 38, 52, 42, 42, 39, 51, 37]
    found = measure_borders(psnr, 4)
    assert found.first == 51
    assert found.last == 38
    assert found.inside == 41
    assert found.jump_across == (14 + 12) / 2
    assert found.jump_inside == pytest.approx((10 + 0 + 2 + 10 + 0 + 3 + 14) / 7)


def test_luma_psnr_counts_in_codes_of_the_depth() -> None:
    for pix_fmt, peak in (("yuv420p", 255), ("yuv420p10le", 1023)):
        source, made = _picture(pix_fmt), _picture(pix_fmt)
        assert luma_psnr(made, source) == 99.0
        planes(made)[0][:] += 1
        assert luma_psnr(made, source) == pytest.approx(20 * math.log10(peak))


def test_memory_is_the_peak_and_its_target_the_growth() -> None:
    before = peak_kib()
    block = np.ones(64 * 2**20, np.uint8)
    del block
    assert peak_kib() >= before > 1024
    rows = [{"times": 1, "peak_mib": 90.0}, {"times": 4, "peak_mib": 95.0}, {"times": 16, "peak_mib": 100.0}]
    (target,) = memory_targets(rows)
    assert (target.value, target.holds) == (0.9, False)


def test_a_folder_without_a_usable_clip_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(SpecError, match="no clip"):
        command.command("video", False, True, tmp_path)
    assert "a.mp4 is left out" in capsys.readouterr().err
