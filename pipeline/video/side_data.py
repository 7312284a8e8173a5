"""Side data of decoded frames: what describes the whole stream, and what encoding anew loses."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideType
from av.video.frame import VideoFrame

from pipeline.video.types import Hdr

_DYNAMIC_SIDE_DATA = ("DYNAMIC_HDR_PLUS", "DOVI_RPU_BUFFER", "DOVI_METADATA", "DYNAMIC_HDR_VIVID",
                      "A53_CC", "AFD", "S12M_TIMECODE", "GOP_TIMECODE")  # fmt: skip


@dataclass(frozen=True)
class FirstFrame:
    """Side data of the first frame that describes the whole stream."""

    display_matrix: tuple[int, ...] | None
    hdr: Hdr | None


def read_first_frame(frame: VideoFrame) -> FirstFrame:
    """Display matrix and static HDR metadata."""
    matrix = mastering = light = None
    for side in _side_data(frame):
        data = bytes(side)
        if side.type == SideType.DISPLAYMATRIX and len(data) >= 36:
            matrix = struct.unpack("<9i", data[:36])
        elif side.type == SideType.MASTERING_DISPLAY_METADATA and len(data) >= 80:
            numbers = struct.unpack("<20i", data[:80])
            mastering = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        elif side.type == SideType.CONTENT_LIGHT_LEVEL and len(data) >= 8:
            light = struct.unpack("<2I", data[:8])
    return FirstFrame(matrix, Hdr(mastering, light) if mastering or light else None)


def dynamic_side_data(frame: VideoFrame) -> Iterator[str]:
    """Names of a frame's own data that encoding anew loses."""
    for side in _side_data(frame):
        if side.type.name in _DYNAMIC_SIDE_DATA:
            yield side.type.name.lower()


def _side_data(frame: VideoFrame) -> list[SideData]:
    try:
        found: Any = frame.side_data
        return list(found)
    except ValueError:
        return []  # A kind of side data newer than this PyAV; nothing here needs it.
