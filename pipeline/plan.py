"""The absolute plan of a video: scenes, knots, anchors, chunks. A pure function of its index and the spec.

Nothing here knows the cluster. ``knots_per_chunk`` decides which frames travel together, never what they
become: knots, anchors and GOPs lie on the grid of the scene alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from pipeline.settings import ConsistencySettings
from pipeline.video.types import VideoIndex

#: Decoded frames of a chunk travel through the object store in one row.
MAX_CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ScenePlan:
    """Frames ``[first, last)`` between two cuts. ``knots`` are absolute ordinals, ascending, and begin
    with ``first`` and end with ``last - 1``; ``anchors`` are some of them."""

    number: int
    first: int
    last: int
    knots: tuple[int, ...]
    anchors: tuple[int, ...]


@dataclass(frozen=True)
class ChunkPlan:
    """Frames ``[first, last)`` of one scene: the unit of work, retry and storage.

    ``gops`` are frame counts of its closed GOPs, one per knot interval; ``knots`` are all knots that
    bracket its frames (the last may belong to the next chunk).
    """

    scene: int
    number: int
    first: int
    last: int
    gops: tuple[int, ...]
    knots: tuple[int, ...]


@dataclass(frozen=True)
class VideoPlan:
    """All scenes and chunks of one video, in presentation order; together the chunks tile it."""

    frames: int
    scenes: tuple[ScenePlan, ...]
    chunks: tuple[ChunkPlan, ...]


def plan_video(index: VideoIndex, consistency: ConsistencySettings, scale: int) -> VideoPlan:
    """Plan one indexed video; ``scale`` is the linear growth of pictures under ``enhance``."""
    bounds = [*index.cuts, index.frames]
    scenes = tuple(
        plan_scene(number, first, last, consistency)
        for number, (first, last) in enumerate(itertools.pairwise(bounds))
    )
    intervals = intervals_per_chunk(index, consistency, scale)
    chunks: list[ChunkPlan] = []
    for scene in scenes:
        chunks += plan_chunks(scene, intervals, len(chunks))
    return VideoPlan(index.frames, scenes, tuple(chunks))


def plan_scene(number: int, first: int, last: int, consistency: ConsistencySettings) -> ScenePlan:
    """Knots every ``knot_every`` frames and on the last frame; up to ``anchors`` of them, evenly spread.

    A scene gets ``min(anchors, ceil(frames / 64) + 1, knots)`` anchors.
    """
    knots = list(range(first, last, consistency.knot_every))
    if knots[-1] != last - 1:
        knots.append(last - 1)
    count = min(consistency.anchors, -(-(last - first) // 64) + 1, len(knots))
    anchors = tuple(knots[(2 * j + 1) * len(knots) // (2 * count)] for j in range(count))
    return ScenePlan(number, first, last, tuple(knots), anchors)


def knot_intervals(scene: ScenePlan) -> tuple[tuple[int, int], ...]:
    """Half-open frame ranges between knots; the last one also holds the last knot."""
    if len(scene.knots) == 1:
        return ((scene.first, scene.last),)
    starts = scene.knots[:-1]
    return tuple(zip(starts, (*starts[1:], scene.last), strict=True))


def plan_chunks(scene: ScenePlan, intervals_per_chunk: int, numbered_from: int) -> list[ChunkPlan]:
    """Cut a scene into chunks of up to ``intervals_per_chunk`` knot intervals."""
    intervals = knot_intervals(scene)
    chunks: list[ChunkPlan] = []
    for at in range(0, len(intervals), intervals_per_chunk):
        mine = intervals[at : at + intervals_per_chunk]
        first, last = mine[0][0], mine[-1][1]
        right = min((knot for knot in scene.knots if knot >= last), default=scene.knots[-1])
        chunks.append(
            ChunkPlan(
                scene=scene.number,
                number=numbered_from + len(chunks),
                first=first,
                last=last,
                gops=tuple(b - a for a, b in mine),
                knots=tuple(knot for knot in scene.knots if first <= knot <= right),
            )
        )
    return chunks


def intervals_per_chunk(index: VideoIndex, consistency: ConsistencySettings, scale: int) -> int:
    """``knots_per_chunk``, fewer when frames are large: a chunk's output stays below MAX_CHUNK_BYTES."""
    depth = 2 if index.bit_depth > 8 else 1
    frame_bytes = 3 * depth * index.geometry.width * index.geometry.height * scale * scale
    fitting = MAX_CHUNK_BYTES // (frame_bytes * consistency.knot_every)
    return max(1, min(consistency.knots_per_chunk, fitting))

