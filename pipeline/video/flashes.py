"""Frames that are no look of their scene: flashes, dropouts and black, found from `FrameLooks` alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from pipeline.video.looks import LIGHTNESS_CELLS, LOOK_BYTES, MOTION_STEPS, FrameLooks, Values

#: The longest flash, in frames: photographers' take one, lightning a few.
FLASH_FRAMES = 4
#: How far mean L* (0..255) must step up (or down) and back. Flicker of old film stays below mostly.
FLASH_STEP = 10
#: How far apart (mean over all cells, 0..255) the frames around a flash may look in a still picture.
FLASH_RETURN = 8
#: Motion, in code values, from which a frame may start a scene however its neighbours move. Cuts of real
#: clips have 30 and more, dissolves over 16 frames up to 8.
CUT_MOTION = 10
#: L* (0..255) up to which every cell of a frame counts as black: code 8 of sRGB. Night is brighter.
BLACK = 6


def flash_frames(looks: FrameLooks) -> Values:
    """Which frames belong to a flash or a dropout: bool [frames].

    A flash is a run of up to `FLASH_FRAMES` frames that are all brighter (or all darker) by `FLASH_STEP`
    than both the frame before and the frame after, which look like each other: at most `FLASH_RETURN` or
    what the picture moves in that time apart, and less than half as far as either is from any frame of the
    run. A short scene between two others is none where those differ in their cells; of flashes in quick
    succession the bright frames are the flashes.
    """
    found = np.zeros(looks.frames, bool)
    lightness = _lightness(looks)
    if not (np.abs(np.diff(lightness)) >= FLASH_STEP * LIGHTNESS_CELLS).any():
        return found  # every flash begins with such a step
    cells, motion = looks.looks(), looks.motions()
    for light, length in itertools.product((lightness, -lightness), range(1, FLASH_FRAMES + 1)):
        for start in _steps(light, length):
            before, after = start - 1, start + length
            run = range(start, after)
            if found[before] or found[after]:
                continue
            apart = _distance(cells, before, after)
            nearest = min(min(_distance(cells, i, before), _distance(cells, i, after)) for i in run)
            moved = (length + 1) * min(motion[before], motion[min(after + 1, looks.frames - 1)])
            allowed = max(FLASH_RETURN, moved / MOTION_STEPS) * LOOK_BYTES
            if apart <= allowed and 2 * apart < nearest:
                found[start:after] = True
    return found


def black_frames(looks: FrameLooks) -> Values:
    """Which frames are black all over: bool [frames]."""
    return np.asarray((looks.looks()[:, :LIGHTNESS_CELLS] <= BLACK).all(1))


def black_runs(looks: FrameLooks) -> Iterator[tuple[int, int]]:
    """Half-open ranges of black frames, ascending."""
    edges = np.flatnonzero(np.diff(black_frames(looks).astype(np.int8), prepend=0, append=0))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), int(stop)


def seams_of_nothing(looks: FrameLooks) -> Values:
    """Frames that differ from the one before without being the start of a scene: bool [frames].

    The edges of flashes, and frames of a fade or dissolve: there the hue and saturation of dark or grey
    pictures can leap although the picture drifts as it did before or does after.
    """
    motion = looks.motions()
    around = np.maximum(np.append(0, motion[:-1]), np.append(motion[1:], 0))
    seams = np.asarray((motion < CUT_MOTION * MOTION_STEPS) & (motion < 2 * around))
    flashes = flash_frames(looks)
    seams |= flashes
    seams[1:] |= flashes[:-1]
    return seams


def _lightness(looks: FrameLooks) -> Values:
    """Sum of L* over the cells: int64 [frames]."""
    return looks.looks()[:, :LIGHTNESS_CELLS].sum(1, dtype=np.int64)


def _steps(light: Values, length: int) -> list[int]:
    """First frames of runs of ``length`` that step up and back down."""
    if len(light) < length + 2:
        return []
    runs = np.lib.stride_tricks.sliding_window_view(light[1:-1], length)
    up = runs.min(1) - np.maximum(light[: len(runs)], light[length + 1 :])
    return [int(i) + 1 for i in np.flatnonzero(up >= FLASH_STEP * LIGHTNESS_CELLS)]


def _distance(cells: Values, one: int, other: int) -> int:
    return int(np.abs(cells[one].astype(np.int64) - cells[other]).sum())
