"""Times that files state badly: found, and rebuilt with as little change as possible."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.presentation import find_fault, lost_frames, rebuild_times, usual_step

_TIMES = st.lists(st.one_of(st.none(), st.integers(-500, 500)), min_size=1, max_size=40)


@given(_TIMES.filter(lambda raw: any(pts is not None for pts in raw)), st.integers(1, 50))
def test_rebuilt_times_always_increase_and_count_what_was_changed(raw, step):
    times, rebuilt = rebuild_times(raw, step)
    assert len(times) == len(raw)
    assert all(a < b for a, b in pairwise(times))
    assert sum(a == b for a, b in zip(times, raw, strict=True)) >= len(raw) - rebuilt
    assert find_fault(times) is None


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(-1000, 1000))
def test_sound_times_are_left_alone(steps, start):
    raw = [start]
    for step in steps:
        raw.append(raw[-1] + step)
    assert rebuild_times(raw, 7) == (raw, 0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([0, None, 20, 30], [0, 10, 20, 30]),
        ([None, None, 20, 30], [0, 10, 20, 30]),
        ([0, 10, None, None], [0, 10, 20, 30]),
        ([0, 10, 10, 30], [0, 10, 20, 30]),
        ([0, 10, 5, 30, 40], [0, 10, 20, 30, 40]),
        # One wild time costs itself, not those after it.
        ([0, 900, 20, 30, 40], [0, 10, 20, 30, 40]),
        # Variable times of the rest stay exactly as they are.
        ([0, 7, 7, 50, 51], [0, 7, 28, 50, 51]),
    ],
)
def test_holes_are_filled_evenly_between_the_times_that_can_stand(raw, expected):
    assert rebuild_times(raw, 10)[0] == expected


def test_two_frames_in_one_tick_make_room_by_moving_one_of_them():
    times, rebuilt = rebuild_times([0, 1, 1, 2, 3], 1)
    assert all(a < b for a, b in pairwise(times))
    assert rebuilt >= 1


@pytest.mark.parametrize(
    ("raw", "code", "ordinal"),
    [
        ([None, None], "no_timestamps", 0),
        ([0, None, 2], "pts_missing", 1),
        ([0, 4, 4], "duplicate_pts", 2),
        ([0, 4, 3], "pts_not_monotonic", 2),
    ],
)
def test_the_first_time_that_cannot_stand_is_named(raw, code, ordinal):
    fault = find_fault(raw)
    assert fault is not None
    assert (fault.code, fault.ordinal) == (code, ordinal)


def test_the_usual_step_is_the_median_of_those_known():
    assert usual_step([0, 10, 20, None, 500, 510, 510]) == 10
    assert usual_step([5, None, 3]) is None


STEADY = list(range(0, 40 * 512, 512))


@pytest.mark.parametrize(
    ("pts", "holes"),
    [
        (STEADY, []),
        (STEADY[:10] + STEADY[11:20] + STEADY[24:], [(10, 1), (19, 4)]),
        ([round(i * 1001 / 24) for i in range(40) if i != 7], [(7, 1)]),  # rounded to milliseconds
        ([i + (i > 9) for i in range(30)], []),  # nothing is certain within a tick
        ([512 * i + 512 * (i // 2) for i in range(40)], []),  # every other step doubled is a rhythm
        (STEADY[:10] + STEADY[30:], []),  # a jump of the clock, told by others
        (STEADY[:3] + STEADY[5:8], []),  # too few to know what is usual
    ],
)
def test_frames_are_missed_where_a_steady_video_has_none(
    pts: list[int], holes: list[tuple[int, int]]
) -> None:
    assert lost_frames(pts) == holes
