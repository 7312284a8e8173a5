"""The learning rate: warm-up, plateau, linear fall; by iterations or by the clock, the same numbers."""

from __future__ import annotations

import pytest

from operators.training.schedule import STABLE, WARM_UP, Schedule


def test_the_rate_warms_up_stays_and_falls_linearly_to_nothing() -> None:
    schedule = Schedule.of_iterations(500)
    assert (schedule.stable, schedule.total) == (400, 500)
    assert [schedule.rate(i) for i in range(WARM_UP)] == pytest.approx(
        [(i + 1) / WARM_UP for i in range(WARM_UP)]
    )
    assert {schedule.rate(i) for i in range(WARM_UP - 1, 400)} == {1.0}
    assert [schedule.rate(400 + i) for i in range(100)] == pytest.approx([1 - i / 100 for i in range(100)])


def test_the_length_is_the_one_asked_for_or_one_beside_it() -> None:
    for iterations in range(1, 3000):
        total = Schedule.of_iterations(iterations).total
        assert total is not None
        assert abs(total - iterations) <= 1


def test_a_run_by_the_clock_is_had_again_by_its_total() -> None:
    for stable in range(1, 3000):
        by_clock = Schedule(None).fall_from(stable)
        assert by_clock.total is not None
        assert Schedule.of_iterations(by_clock.total) == by_clock


def test_the_fall_takes_the_share_that_is_not_stable() -> None:
    for stable in (40, 400, 4001):
        total = Schedule(stable).total
        assert total is not None
        assert stable / total == pytest.approx(STABLE, abs=0.02)


def test_before_the_fall_is_known_the_rate_is_that_of_any_longer_run() -> None:
    open_end, later = Schedule(None), Schedule(900)
    assert open_end.total is None
    assert [open_end.rate(i) for i in range(900)] == [later.rate(i) for i in range(900)]


def test_no_iteration_of_a_run_has_a_rate_of_zero() -> None:
    for iterations in (1, 2, 3, 10, 60):
        schedule = Schedule.of_iterations(iterations)
        assert schedule.total is not None
        assert all(schedule.rate(i) > 0 for i in range(schedule.total))
        assert schedule.rate(schedule.total) == 0
