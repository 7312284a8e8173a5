"""The absolute plan of a video: scenes, knots, anchors, chunks. A pure function of its index and the spec.

Nothing here knows the cluster. ``knots_per_chunk`` decides which frames travel together, never what they
become: knots, anchors and GOPs lie on the grid of the scene alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.anchors import choose_anchors
from pipeline.knots import place_knots, travel_of
from pipeline.settings import ConsistencySettings
from pipeline.sharing_policies import facts_of
from pipeline.video.flashes import black_frames, flash_frames
from pipeline.video.looks import FrameLooks
from pipeline.video.types import VideoIndex

#: Decoded frames of a chunk travel through the object store in one row.
MAX_CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ScenePlan:
    """Frames ``[first, last)`` between two cuts. ``knots`` are absolute ordinals, ascending, and begin
    with ``first`` and end with ``last - 1``; ``anchors`` are some of them; ``flashes`` counts the frames that
    were avoided as either."""

    number: int
    first: int
    last: int
    knots: tuple[int, ...]
    anchors: tuple[int, ...]
    flashes: int = 0

    def record(self) -> dict[str, Any]:
        """Facts for ``plan.json``: how many knots at which gaps, which anchors."""
        gaps = [right - left for left, right in itertools.pairwise(self.knots)]
        return {
            "first": self.first,
            "last": self.last,
            "knots": len(self.knots),
            "gaps": [min(gaps, default=0), max(gaps, default=0)],
            "anchors": list(self.anchors),
            "flash_frames": self.flashes,
        }


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


class Looked(Protocol):
    """What scenes are planned from: an index, or `Seen`."""

    @property
    def frames(self) -> int: ...
    @property
    def cuts(self) -> tuple[int, ...]: ...
    @property
    def looks(self) -> FrameLooks: ...


@dataclass(frozen=True)
class Seen:
    """Bare frames that were looked at: how many, where scenes begin, how they look."""

    frames: int
    cuts: tuple[int, ...]
    looks: FrameLooks


@dataclass(frozen=True)
class VideoPlan:
    """All scenes and chunks of one video, in presentation order; together the chunks tile it."""

    frames: int
    scenes: tuple[ScenePlan, ...]
    chunks: tuple[ChunkPlan, ...]


def plan_video(index: VideoIndex, consistency: ConsistencySettings, scale: int) -> VideoPlan:
    """Plan one indexed video; ``scale`` is the linear growth of pictures under ``enhance``."""
    scenes = plan_scenes(index, consistency)
    depth = 2 if index.bit_depth > 8 else 1
    frame_bytes = 3 * depth * index.geometry.width * index.geometry.height * scale * scale
    chunks: list[ChunkPlan] = []
    for scene in scenes:
        chunks += plan_chunks(scene, consistency.knots_per_chunk, MAX_CHUNK_BYTES // frame_bytes, len(chunks))
    return VideoPlan(index.frames, scenes, tuple(chunks))


def plan_scenes(index: Looked, consistency: ConsistencySettings) -> tuple[ScenePlan, ...]:
    """Scenes between cuts, with knots and anchors."""
    looks = index.looks.looks()
    flashes = flash_frames(index.looks)
    steady = ~(flashes | black_frames(index.looks))
    travel = travel_of(index.looks, flashes) if consistency.knots == "adaptive" else None
    scenes = []
    for number, (first, last) in enumerate(itertools.pairwise([*index.cuts, index.frames])):
        knots = place_knots(first, last, consistency.knot_every, flashes, travel)
        anchors: tuple[int, ...] = (first,)
        if facts_of(consistency).anchors != "first":
            anchors = choose_anchors(knots, looks, steady, first, last, consistency.anchors)
        scenes.append(ScenePlan(number, first, last, knots, anchors, int(flashes[first:last].sum())))
    return tuple(scenes)


def knot_intervals(scene: ScenePlan) -> tuple[tuple[int, int], ...]:
    """Half-open frame ranges between knots; the last one also holds the last knot."""
    if len(scene.knots) == 1:
        return ((scene.first, scene.last),)
    starts = scene.knots[:-1]
    return tuple(zip(starts, (*starts[1:], scene.last), strict=True))


def plan_chunks(
    scene: ScenePlan, most_intervals: int, most_frames: int, numbered_from: int
) -> list[ChunkPlan]:
    """Cut a scene into chunks of up to ``most_intervals`` knot intervals and ``most_frames`` frames, each
    of one interval at least."""
    chunks: list[ChunkPlan] = []
    intervals = knot_intervals(scene)
    at = 0
    while at < len(intervals):
        first, stop = intervals[at][0], at + 1
        while stop < min(at + most_intervals, len(intervals)) and intervals[stop][1] - first <= most_frames:
            stop += 1
        chunks.append(
            ChunkPlan(
                scene=scene.number,
                number=numbered_from + len(chunks),
                first=first,
                last=intervals[stop - 1][1],
                gops=tuple(b - a for a, b in intervals[at:stop]),
                knots=scene.knots[at : stop + 1],
            )
        )
        at = stop
    return chunks
