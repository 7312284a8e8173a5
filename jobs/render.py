"""Frames through the Enhancer in one process: what a job's actors do with a scene, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.enhancer_config import FrameTask
from pipeline.plan import ChunkPlan, ScenePlan

if TYPE_CHECKING:
    from pipeline.enhancer import Enhancer

Frames = np.ndarray[Any, Any]


def render_scene(
    enhancer: Enhancer,
    scene: ScenePlan,
    chunks: Iterable[ChunkPlan],
    task: Callable[[Sequence[int]], FrameTask],
    frames: Callable[[Sequence[int]], Frames],
    *,
    anchored: bool,
    knotted: bool,
) -> Iterator[Frames]:
    """The pictures [n, H, W, 3] of each of ``chunks``, in order: anchors of the scene first, then the knots
    around a chunk, then its frames. Only the references of the current chunk are held.

    ``task`` and ``frames`` give what the Enhancer is told of ordinals and the frames themselves [n, h, w, 3].
    """
    anchors = enhancer.anchors(task(scene.anchors), frames(scene.anchors)) if anchored else None
    made: dict[int, bytes] = {}
    for chunk in chunks:
        if knotted and anchors is not None:
            made = {ordinal: made[ordinal] for ordinal in made if ordinal in chunk.knots}
            missing = [o for o in chunk.knots if o not in made and o not in scene.anchors]
            if missing:
                made |= enhancer.knots(task(missing), frames(missing), anchors)
        ordinals = range(chunk.first, chunk.last)
        yield enhancer.chunk(task(ordinals), frames(ordinals), chunk.knots, anchors, made)
