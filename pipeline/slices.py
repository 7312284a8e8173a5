"""When frames do not fit into memory at once: fewer at a time, with the same bits.

All frames of a chunk advance through the network together, because they share the replays of their
references. Which frames those are does not show in the result: a chunk of M knot intervals gives what M
chunks of one interval give (design, non-negotiable 1). So the slice that is halved is a number of whole
intervals, never the shape of a batch, which would change bits. Knots are independent of each other, one by
one. What cannot be cut that way is not: the anchors of a scene, which are denoised jointly, and chunks under
a sharing policy whose result depends on the chunk.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from pipeline.enhancer_config import FrameTask
from pipeline.errors import MemoryFullError
from pipeline.sharing_policies import facts_of

if TYPE_CHECKING:
    from pipeline.enhancer import Enhancer

Part = TypeVar("Part")
Result = TypeVar("Result")
Frames = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Interval:
    """Frames ``ordinals`` of a chunk and the knots ``grid`` around them, absolute and ascending."""

    ordinals: tuple[int, ...]
    grid: tuple[int, ...]


@dataclass(frozen=True)
class Sliced(Generic[Result]):
    """Results of consecutive slices, and how often memory was full on the way."""

    results: list[Result]
    refused: int

    @property
    def facts(self) -> dict[str, int]:
        """What the manifest says of it: nothing if all fitted at once."""
        if len(self.results) == 1:
            return {}
        return {"slices": len(self.results), "memory_full": self.refused}


def intervals(ordinals: Sequence[int], grid: Sequence[int]) -> list[Interval]:
    """A chunk's frames by knot interval; a last frame that is a knot belongs to the interval before it."""
    if len(grid) < 2:
        return [Interval(tuple(ordinals), tuple(grid))]
    found = []
    for at, (start, stop) in enumerate(itertools.pairwise(grid)):
        last = at == len(grid) - 2
        inside = tuple(o for o in ordinals if start <= o < stop or (last and o >= stop))
        if inside:
            found.append(Interval(inside, (start, stop)))
    return found


def joined(parts: Sequence[Interval]) -> Interval:
    """Consecutive intervals as one stretch of frames."""
    ordinals = tuple(ordinal for part in parts for ordinal in part.ordinals)
    return Interval(ordinals, tuple(sorted({knot for part in parts for knot in part.grid})))


class MemoryFit:
    """Runs work on as many parts at a time as fit, and remembers how many that were."""

    def __init__(self) -> None:
        self._sizes: dict[Hashable, int] = {}

    def run(
        self, kind: Hashable, parts: Sequence[Part], work: Callable[[Sequence[Part]], Result]
    ) -> Sliced[Result]:
        """``work`` on consecutive slices of ``parts``, halved whenever it raises MemoryFullError. ``kind``
        names work of equal appetite: its next call begins with what fitted.

        Raises MemoryFullError when one part alone does not fit.
        """
        size, at, refused = min(self._sizes.get(kind, len(parts)), len(parts)), 0, 0
        results: list[Result] = []
        while at < len(parts):
            try:
                results.append(work(parts[at : at + size]))
            except MemoryFullError:
                if size == 1:
                    raise
                size, refused = size // 2, refused + 1
                self._sizes[kind] = size
                continue
            at += size
        return Sliced(results, refused)


class ThriftyEnhancer:
    """An Enhancer that computes fewer frames at a time when memory is full. ``within_memory`` makes full
    memory a MemoryFullError (`pipeline.enhancer.within_memory`). Knots and chunks come with their
    `Sliced.facts`."""

    def __init__(self, enhancer: Enhancer, within_memory: Callable[[Callable[[], Any]], Any]) -> None:
        self._enhancer = enhancer
        self._within_memory = within_memory
        self._fit = MemoryFit()
        self._divisible = not facts_of(enhancer.config.consistency).depends_on_chunking

    def applying(self, items: Sequence[dict[str, Any]], origins: Sequence[int]) -> ThriftyEnhancer:
        """As `Enhancer.applying`."""
        other = copy.copy(self)
        other._enhancer = self._enhancer.applying(items, origins)
        return other

    def anchors(self, task: FrameTask, frames: Frames) -> bytes:
        """As `Enhancer.anchors`; they cannot be cut."""
        blob: bytes = self._within_memory(lambda: self._enhancer.anchors(task, frames))
        return blob

    def knots(
        self, task: FrameTask, frames: Frames, anchors: bytes | None
    ) -> tuple[dict[int, bytes], dict[str, int]]:
        """As `Enhancer.knots`."""

        def work(some: Sequence[int]) -> dict[int, bytes]:
            piece, seen = _piece(task, some), _frames_of(task, frames, some)
            made: dict[int, bytes] = self._within_memory(lambda: self._enhancer.knots(piece, seen, anchors))
            return made

        sliced = self._fit.run(("knots", frames.shape[1:]), task.ordinals, work)
        return {knot: blob for part in sliced.results for knot, blob in part.items()}, sliced.facts

    def chunk(
        self,
        task: FrameTask,
        frames: Frames,
        grid: Sequence[int],
        anchors: bytes | None,
        knots: Mapping[int, bytes],
    ) -> tuple[Frames, dict[str, int]]:
        """As `Enhancer.chunk`."""
        whole = [Interval(task.ordinals, tuple(grid))]
        parts = intervals(task.ordinals, grid) if self._divisible else whole

        def work(some: Sequence[Interval]) -> Frames:
            part = joined(some)
            near = {knot: blob for knot, blob in knots.items() if knot in part.grid}
            piece, seen = _piece(task, part.ordinals), _frames_of(task, frames, part.ordinals)
            pictures: Frames = self._within_memory(
                lambda: self._enhancer.chunk(piece, seen, part.grid, anchors, near)
            )
            return pictures

        sliced = self._fit.run(("chunk", frames.shape[1:]), parts, work)
        pictures = sliced.results[0] if len(sliced.results) == 1 else np.concatenate(sliced.results)
        return pictures, sliced.facts


def _piece(task: FrameTask, ordinals: Sequence[int]) -> FrameTask:
    return dataclasses.replace(task, ordinals=tuple(ordinals))


def _frames_of(task: FrameTask, frames: Frames, ordinals: Sequence[int]) -> Frames:
    """The frames of ``ordinals`` among those of a task; all of them are not copied."""
    if tuple(ordinals) == task.ordinals:
        return frames
    return frames[[task.ordinals.index(ordinal) for ordinal in ordinals]]
