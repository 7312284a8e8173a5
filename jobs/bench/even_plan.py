"""Plans of bare frames: benchmarks compare ways to share, so knots and anchors are spread evenly."""

from __future__ import annotations

import numpy as np

from pipeline.knots import place_knots
from pipeline.plan import ScenePlan
from pipeline.settings import ConsistencySettings


def plan_scene(number: int, first: int, last: int, consistency: ConsistencySettings) -> ScenePlan:
    """One scene of frames ``[first, last)``: a knot every ``knot_every`` frames, as many anchors as a job
    gives it, spread over the knots."""
    knots = place_knots(first, last, consistency.knot_every, np.zeros(last, dtype=bool), None)
    count = min(consistency.anchors, -(-(last - first) // 64) + 1, len(knots))
    anchors = tuple(knots[(2 * j + 1) * len(knots) // (2 * count)] for j in range(count))
    return ScenePlan(number, first, last, knots, anchors)
