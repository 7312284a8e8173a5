"""Looks of videos that need no video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from pipeline.video.looks import LIGHTNESS_CELLS, LOOK_BYTES, MOTION_STEPS, FrameLooks
from pipeline.video.types import Colour, Geometry, VideoIndex


def looks_of(lightness: Sequence[int], motion: Sequence[float] | None = None) -> FrameLooks:
    """Grey frames of these L* (0..255); ``motion`` in code values, by default how far L* steps."""
    grey = np.array(lightness)
    cells = np.full((len(grey), LOOK_BYTES), 128, np.uint8)
    cells[:, :LIGHTNESS_CELLS] = grey[:, None]
    moved = np.abs(np.diff(grey, prepend=grey[0])) if motion is None else np.array(motion)
    return FrameLooks((moved * MOTION_STEPS).astype("<u2").tobytes(), cells.tobytes())


def still(frames: int) -> FrameLooks:
    return looks_of([100] * frames)


def index_with(looks: FrameLooks, cuts: tuple[int, ...] = (0,), **changes: object) -> VideoIndex:
    """An index of 64x48 pictures that were measured as ``looks``."""
    index = VideoIndex(
        source_digest="0" * 64,
        container="mp4",
        stream=0,
        streams=(),
        codec="h264",
        pix_fmt="yuv420p",
        bit_depth=8,
        time_base=Fraction(1, 25),
        average_rate=Fraction(25),
        pts=tuple(range(looks.frames)),
        durations=(1,) * looks.frames,
        frame_hashes=(0,) * looks.frames,
        key_pts=(0,),
        key_dts=(0,),
        cuts=cuts,
        looks=looks,
        colour=Colour(1, 1, 2, 2, "assumed", "assumed"),
        geometry=Geometry(64, 48, Fraction(1), None),
        interlaced_frames=0,
        decode_errors=0,
        warnings=(),
    )
    return replace(index, **changes)
