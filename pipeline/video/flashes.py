"""Frames that are no look of their scene: flashes, dropouts and black, found from `FrameLooks` alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.video.looks import LIGHTNESS_CELLS, LOOK_BYTES, FrameLooks, Values

#: The longest flash, in frames: photographers' take one, lightning a few.
FLASH_FRAMES = 4
#: How far mean L* (0..255) must step up (or down) and back. Flicker of old film stays below mostly.
FLASH_STEP = 10
#: How far apart (mean over all cells, 0..255) the frames around a flash may look.
FLASH_RETURN = 10
#: L* (0..255) up to which every cell of a frame counts as black: 4 % of white, code 12 of sRGB.
BLACK = 10


def flash_frames(looks: FrameLooks) -> Values:
    """Which frames belong to a flash or a dropout: bool [frames].

    A flash is a run of up to `FLASH_FRAMES` frames that are all brighter (or all darker) by `FLASH_STEP`
    than both the frame before and the frame after, which look like each other: at most `FLASH_RETURN`
    apart, and less than half as far as either is from any frame of the run. A short scene between two
    others is none, since those differ.
    """
    found = np.zeros(looks.frames, bool)
    lightness = _lightness(looks)
    cells = looks.looks()
    for length in range(1, FLASH_FRAMES + 1):
        for start in _steps(lightness, length):
            before, after = start - 1, start + length
            run = range(start, after)
            apart = _distance(cells, before, after)
            nearest = min(min(_distance(cells, i, before), _distance(cells, i, after)) for i in run)
            if apart <= FLASH_RETURN * LOOK_BYTES and 2 * apart < nearest:
                found[start:after] = True
    return found


def black_runs(looks: FrameLooks) -> Iterator[tuple[int, int]]:
    """Half-open ranges of black frames, ascending."""
    black = (looks.looks()[:, :LIGHTNESS_CELLS] <= BLACK).all(1)
    edges = np.flatnonzero(np.diff(black.astype(np.int8), prepend=0, append=0))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), int(stop)


def _lightness(looks: FrameLooks) -> Values:
    """Sum of L* over the cells: int64 [frames]."""
    return looks.looks()[:, :LIGHTNESS_CELLS].sum(1, dtype=np.int64)


def _steps(lightness: Values, length: int) -> list[int]:
    """First frames of runs of ``length`` that step up (or down) and back."""
    if len(lightness) < length + 2:
        return []
    runs = np.lib.stride_tricks.sliding_window_view(lightness[1:-1], length)
    before, after = lightness[: len(runs)], lightness[length + 1 :]
    up = runs.min(1) - np.maximum(before, after)
    down = np.minimum(before, after) - runs.max(1)
    return [int(i) + 1 for i in np.flatnonzero(np.maximum(up, down) >= FLASH_STEP * LIGHTNESS_CELLS)]


def _distance(cells: Values, one: int, other: int) -> int:
    return int(np.abs(cells[one].astype(np.int64) - cells[other]).sum())
