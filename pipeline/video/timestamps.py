"""Decoding timestamps made from presentation times alone.

Encoders are not trusted here: some write nonsense for very short pieces, and offsets that fit one
piece run backwards at the next when frame times vary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def presentation_ranks(pts: Sequence[int]) -> list[int]:
    """Rank of each packet, given in decode order, by presentation time."""
    order = sorted(range(len(pts)), key=pts.__getitem__)
    ranks = [0] * len(pts)
    for rank, packet in enumerate(order):
        ranks[packet] = rank
    return ranks


def reorder_delay(ranks: Sequence[int]) -> int:
    """How many frames a decoder must hold back: the largest lead of decode over presentation order."""
    return max((i - rank for i, rank in enumerate(ranks)), default=0)


def decode_times(sorted_pts: Sequence[int], delay: int) -> Iterator[int]:
    """DTS per packet in decode order: strictly increasing and never after the packet's pts.

    Packet i, whose rank is at least ``i - delay``, decodes when frame ``i - delay`` is shown; the
    first ``delay`` packets get steps before the first frame.
    """
    step = max(1, sorted_pts[1] - sorted_pts[0]) if len(sorted_pts) > 1 else 1
    for i in range(len(sorted_pts)):
        yield sorted_pts[i - delay] if i >= delay else sorted_pts[0] - (delay - i) * step
