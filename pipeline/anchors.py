"""Which knots of a scene are its anchors: those that together show most of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.video.looks import Values


def choose_anchors(
    knots: Sequence[int], looks: Values, steady: Values, first: int, last: int, most: int
) -> tuple[int, ...]:
    """Up to ``min(most, ceil(frames / 64) + 1)`` anchors among ``knots``, ascending.

    The first is the knot nearest to all frames of the scene ``[first, last)`` (the medoid's place), each
    further one the knot farthest from those chosen (farthest-point sampling, Gonzalez 1985); of equals the
    earlier frame wins. ``looks`` are uint8 [frames, 24] of the whole video; frames that are not ``steady``
    (bool [frames]: no flash, not black) neither count nor are chosen, unless all knots are like that.
    Distances are sums of squared integers, so the choice is the same everywhere.
    """
    candidates = [knot for knot in knots if steady[knot]] or list(knots)
    count = min(most, -(-(last - first) // 64) + 1, len(candidates))
    points = looks[candidates].astype(np.int64)
    scene = looks[first:last]
    shown = scene[steady[first:last]] if steady[first:last].any() else scene
    # Sum of squared distances to all frames shown, but for what does not depend on the point.
    to_all = len(shown) * _squared(points) - 2 * points @ shown.sum(0, dtype=np.int64)
    chosen = [int(np.argmin(to_all))]
    nearest = _squared(points - points[chosen[0]])
    while len(chosen) < count:
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _squared(points - points[chosen[-1]]))
    return tuple(candidates[at] for at in sorted(chosen))


def _squared(differences: Values) -> Values:
    return (differences * differences).sum(1)
