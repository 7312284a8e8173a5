"""Clips whose frames carry their own number as big black and white blocks.

A number read back from a decoded picture says which frame it is, without trusting any timestamp,
hash or packet count. The picture is a grid of 8 x 4 blocks: two rows of the number's 16 bits and two
rows of the same bits scrambled, so that two mixed or smeared pictures are noticed and not misread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

COLUMNS, ROWS = 8, 4
HIDDEN_FROM = 9000
_BITS = 16
_SCRAMBLE = 0xA5C3
_BLACK, _WHITE = 40, 210  # 8-bit luma codes, room for ringing on both sides.


class UnreadableNumberError(ValueError):
    """The picture shows no number, or two at once."""


@dataclass(frozen=True)
class BurnedClip:
    """What to write. The suffix of ``name`` is the container; frame i shows number i.

    ``pts`` are in ``time_base``, by default 0, 1, 2, ...
    ``hide``: one coded picture in so many is a reference that is never shown (an alt-ref frame); it
    carries a number from `HIDDEN_FROM` on. Such a picture is the key itself with ``hide_keys``.
    ``packed``: whether a hidden picture shares the packet of the next one (FFmpeg's way for VP9) or
    has its own (always so in VP8).
    """

    name: str
    codec: str
    frames: int = 48
    pts: Sequence[int] | None = None
    time_base: Fraction = Fraction(1, 25)
    width: int = 160
    height: int = 96
    pix_fmt: str = "yuv420p"
    gop: int = 12
    options: dict[str, str] = field(default_factory=dict)
    hide: int = 0
    hide_keys: bool = False
    packed: bool = True

    @property
    def times(self) -> tuple[int, ...]:
        return tuple(range(self.frames)) if self.pts is None else tuple(self.pts)


def write_burned(folder: Path, clip: BurnedClip) -> str:
    """Encode and mux the clip; returns its path."""
    path = folder / clip.name
    packing = {} if clip.packed else {"fflags": "-autobsf"}
    with av.open(str(path), "w", container_options=packing) as out:
        stream = out.add_stream(clip.codec, rate=25, options=dict(clip.options))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = clip.width, clip.height, clip.pix_fmt
        context.time_base, context.gop_size, context.thread_count = clip.time_base, clip.gop, 1
        context.qmin, context.qmax = 2, 20
        out.start_encoding()
        hidden: set[int] = set()
        for number, pts in _pictures(clip):
            frame = burn(number, clip.width, clip.height, clip.pix_fmt)
            frame.pts, frame.time_base = pts, clip.time_base
            if number >= HIDDEN_FROM:
                hidden.add(pts)
                frame.pict_type = PictureType.I if clip.hide_keys else PictureType.NONE
            _mux(out, stream, stream.encode(frame), hidden)
        _mux(out, stream, stream.encode(None), hidden)
    return str(path)


def _pictures(clip: BurnedClip) -> Iterator[tuple[int, int]]:
    """Numbers and times in coding order, those of hidden pictures between the others."""
    for number, pts in enumerate(clip.times):
        if clip.hide and number % clip.hide == (0 if clip.hide_keys else clip.hide // 2):
            yield HIDDEN_FROM + number, pts - 1
        yield number, pts


def _mux(out: Any, stream: Any, packets: list[Packet[Any]], hidden: set[int]) -> None:
    for packet in packets:
        out.mux(_hide(packet, stream) if packet.pts in hidden else packet)


def _hide(packet: Packet[Any], stream: Any) -> Packet[Any]:
    """The same picture with the bit cleared that asks the decoder to show it."""
    data = bytearray(bytes(packet))
    # VP8 (RFC 6386, 9.1): any frame. VP9 (uncompressed header): only keys, others would need one bit more.
    shown = 0x10 if stream.codec_context.name == "libvpx" else 0x02
    assert data[0] & shown
    data[0] &= ~shown
    copy = Packet(bytes(data))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    copy.is_keyframe, copy.stream = packet.is_keyframe, stream
    return copy


def burn(number: int, width: int, height: int, pix_fmt: str) -> VideoFrame:
    """A picture that shows ``number``, in any planar YUV or grey format, with a moving weak texture."""
    if not 0 <= number < 1 << _BITS:
        raise ValueError(f"{number} does not fit {_BITS} bits")
    frame = VideoFrame(width, height, pix_fmt)
    across = np.arange(width) * COLUMNS // width
    down = np.arange(height) * ROWS // height
    luma = np.where(_blocks(number)[down[:, None], across], _WHITE, _BLACK)
    x, y = np.arange(width), np.arange(height)[:, None]
    _fill(frame, 0, luma + 6 * np.sin((x + 3 * number) / 4.0) + 6 * np.cos((y - 2 * number) / 5.0))
    for plane in range(1, len(frame.planes)):
        ramp = np.linspace(118, 138, frame.planes[plane].width)
        _fill(frame, plane, np.broadcast_to(ramp, (frame.planes[plane].height, len(ramp))))
    return frame


def read_number(frame: VideoFrame) -> int:
    """The number burned into a decoded picture, whatever its size, depth and coding loss.

    Raises:
        UnreadableNumberError: a block is grey, or the two copies of the number differ.
    """
    luma = _samples(frame, 0) / 2.0 ** (frame.format.components[0].bits - 8)
    means = np.array([[_middle(luma, row, column) for column in range(COLUMNS)] for row in range(ROWS)])
    threshold = (_BLACK + _WHITE) / 2
    if np.abs(means - threshold).min() < (_WHITE - _BLACK) / 8:
        raise UnreadableNumberError("a block is neither black nor white")
    number, check = (
        sum(int(bit) << i for i, bit in enumerate(bits)) for bits in (means > threshold).reshape(2, _BITS)
    )
    if check != number ^ _SCRAMBLE:
        raise UnreadableNumberError(f"the picture shows {number} and {check ^ _SCRAMBLE}")
    return number


def mean_of(a: VideoFrame, b: VideoFrame) -> VideoFrame:
    """Two pictures blended half and half, as a decoder without its reference might show them."""
    return _combine(a, b, lambda x, y: (x + y) / 2)


def halves_of(a: VideoFrame, b: VideoFrame) -> VideoFrame:
    """The upper half of one picture over the lower half of another."""
    return _combine(a, b, lambda x, y: np.concatenate([x[: len(x) // 2], y[len(y) // 2 :]]))


def _combine(a: VideoFrame, b: VideoFrame, rule: Callable[..., np.ndarray]) -> VideoFrame:
    frame = VideoFrame(a.width, a.height, a.format.name)
    for plane in range(len(frame.planes)):
        whole = rule(_samples(a, plane).astype(float), _samples(b, plane).astype(float))
        _samples(frame, plane)[:] = np.rint(whole)
    return frame


def _blocks(number: int) -> np.ndarray:
    bits = [[value >> i & 1 for i in range(_BITS)] for value in (number, number ^ _SCRAMBLE)]
    return np.array(bits, bool).reshape(ROWS, COLUMNS)


def _middle(luma: np.ndarray, row: int, column: int) -> float:
    """Mean of the inner half of one block, away from its neighbours' ringing."""
    height, width = luma.shape
    top, bottom = (-(-(height * (row + k)) // ROWS) for k in (0, 1))
    left, right = (-(-(width * (column + k)) // COLUMNS) for k in (0, 1))
    down, across = (bottom - top) // 4, (right - left) // 4
    return float(luma[top + down : bottom - down, left + across : right - across].mean())


def _samples(frame: VideoFrame, plane: int) -> np.ndarray:
    """A view of one plane as integers [h, w], without FFmpeg's padding."""
    source: Any = frame.planes[plane]
    kind = np.dtype("u1" if frame.format.components[plane].bits == 8 else "<u2")
    rows = np.frombuffer(source, kind).reshape(source.height, source.line_size // kind.itemsize)
    return rows[:, : source.width]


def _fill(frame: VideoFrame, plane: int, codes: np.ndarray) -> None:
    unit = 2 ** (frame.format.components[plane].bits - 8)
    _samples(frame, plane)[:] = np.rint(codes * unit)
