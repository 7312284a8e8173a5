"""Frames that are restored together: where a degradation or a solver couples neighbours in time.

The unit is a window, a knot interval with a halo on both sides, cut off at the scene's ends: fixed by the
absolute plan, so what a frame becomes does not depend on the chunk it travels in. Only the interval is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Item = Mapping[str, Any]

#: Frames on either side that take part where the solver couples frames, of which the outermost are not kept.
CLIP_HALO = 4
#: Solvers to which a clip is one sample.
WHOLE_CLIPS = ("svi", "lvtino")


@dataclass(frozen=True)
class Window:
    """Frames ``[first, last)`` are kept, ``[begin, end)`` restored together. ``open_left``, ``open_right``:
    whether the scene goes on beyond them."""

    first: int
    last: int
    begin: int
    end: int
    open_left: bool
    open_right: bool

    @property
    def ordinals(self) -> tuple[int, ...]:
        """All frames that are restored together."""
        return tuple(range(self.begin, self.end))

    def measured(self, radius: int) -> tuple[int, ...]:
        """Those whose neighbours up to ``radius`` are among them, or beyond the scene."""
        return self.ordinals[radius * self.open_left : len(self.ordinals) - radius * self.open_right]


def halo_of(enhance: Sequence[Item]) -> int:
    """Frames that are needed on either side of those restored; 0 where no frames are coupled."""
    if not enhance or not couples_frames(enhance[0]):
        return 0
    # What is measured of a frame reaches one radius, and those measurements see one radius more.
    reach_of_solver = CLIP_HALO if uses_flow(enhance[0]) or takes_clips(enhance[0]) else 0
    return max(2 * blur_radius(enhance[0]), reach_of_solver)


def couples_frames(item: Item) -> bool:
    """Whether an item of ``enhance`` restores several frames together."""
    return blur_radius(item) > 0 or uses_flow(item) or takes_clips(item)


def blur_radius(item: Item) -> int:
    """Reach in frames of a blur along time."""
    degradation = item.get("restore", {}).get("degradation", {})
    return int(degradation["taps"]) // 2 if degradation.get("kind") == "temporal_blur" else 0


def uses_flow(item: Item) -> bool:
    """Whether the solver lets neighbours agree along their motion."""
    return bool(item.get("restore", {}).get("solver", {}).get("flow"))


def takes_clips(item: Item) -> bool:
    """Whether a clip is one sample to the solver."""
    return item.get("restore", {}).get("solver", {}).get("name") in WHOLE_CLIPS


def noise_correlation(item: Item, rho: float) -> float:
    """That of the frames of a scene: ``rho``, but one noise for all where a clip is one sample. Otherwise it
    would be that of a window's first frame, and change where windows meet."""
    return 1.0 if takes_clips(item) else rho


def reach(first: int, last: int, halo: int, scene: tuple[int, int]) -> tuple[int, int]:
    """Frames ``[first, last)`` with ``halo`` more on both sides, cut off at the ends of the scene."""
    return max(first - halo, scene[0]), min(last + halo, scene[1])


def windows_of(
    ordinals: Sequence[int], grid: Sequence[int], halo: int, scene: tuple[int, int]
) -> list[Window]:
    """The windows of a chunk's frames, one per knot interval; the scene's last knot is in the last one."""
    stops = [*grid[1:-1], ordinals[-1] + 1]
    found = []
    for first, last in zip(grid[: len(stops)], stops, strict=True):
        begin, end = reach(first, last, halo, scene)
        found.append(Window(first, last, begin, end, begin > scene[0], end < scene[1]))
    return found
