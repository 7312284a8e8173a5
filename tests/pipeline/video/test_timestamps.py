from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.timestamps import decode_times, presentation_ranks, reorder_delay

_STEPS = st.lists(st.integers(1, 5000), min_size=1, max_size=40)


@given(_STEPS, st.data())
def test_decode_times_rise_and_never_pass_the_presentation_time_for_any_order(steps, data):
    pts = [sum(steps[: i + 1]) - 3000 for i in range(len(steps))]
    order = data.draw(st.permutations(range(len(pts))))
    in_decode_order = [pts[i] for i in order]
    ranks = presentation_ranks(in_decode_order)
    dts = list(decode_times(pts, reorder_delay(ranks)))
    assert all(a < b for a, b in pairwise(dts))
    assert all(d <= p for d, p in zip(dts, in_decode_order, strict=True))


def test_pieces_in_display_order_decode_when_they_are_shown():
    assert list(decode_times([5, 9, 40], reorder_delay([0, 1, 2]))) == [5, 9, 40]


def test_nothing_has_no_times():
    assert list(decode_times([], reorder_delay([]))) == []
