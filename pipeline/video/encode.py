"""A chunk of frames as closed groups of pictures in the final codec: a segment file.

Each group of pictures is coded by a fresh encoder, so its bits do not depend on the groups that
happen to share its chunk. Segment files are Matroska with a plain clock of 10 ms per frame; the
real times are put on when the video is assembled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice, repeat
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from pipeline.errors import ChunkError
from pipeline.settings import EncodeSettings
from pipeline.video.colour import convert_frame
from pipeline.video.encoders import EncoderPlan, configure, open_encoder, plan_encoder
from pipeline.video.geometry import as_stored
from pipeline.video.integers import Hashes, Integers
from pipeline.video.opening import DecodeCount, Decoder, decode_stream
from pipeline.video.planes import clean_copy, hash64
from pipeline.video.rgb import model_picture, stored_frame
from pipeline.video.timestamps import presentation_ranks
from pipeline.video.types import Segment, VideoIndex
from pipeline.video.untouched import has_alpha, keep_alpha, keep_source_samples

FRAME_MS = 10
# Room before the first frame for decoding times; no supported encoder reorders this far.
_START_FRAMES = 64
_MILLISECOND = Fraction(1, 1000)
# VP8 and VP9 code transparency as a second picture beside the first.
_ALPHA_SIDE_DATA: Any = "matroska_block_additional"


def encode_rgb_segment(
    path: str,
    rgb: np.ndarray,
    gops: Sequence[int],
    index: VideoIndex,
    settings: EncodeSettings,
    source: Iterable[VideoFrame] | None = None,
) -> Segment:
    """Encode processed frames.

    Args:
        path: file to write. ``rgb``: uint8 or uint16 [n, H, W, 3], full range, upright; H and W may
            differ from the source's (super resolution).
        gops: frame counts of the closed groups of pictures, in order; their sum is n.
        index: gives colour, geometry, rate and pixel format of the source.
        source: the treated frames these were made from. What came back unchanged keeps their samples, and
            their transparency goes along. Without them all is converted, and opaque.

    Raises:
        ChunkError: ``encode_failed``. SpecError: unknown codec or preset. ValueError: wrong shapes.
    """
    if rgb.ndim != 4 or rgb.shape[3] != 3 or rgb.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"frames must be uint8 or uint16 [n, H, W, 3], not {rgb.dtype} {rgb.shape}")
    if sum(gops) != len(rgb):
        raise ValueError(f"groups of pictures {list(gops)} do not add up to {len(rgb)} frames")
    height, width = as_stored(rgb, index.geometry.display_matrix).shape[1:3]
    plan = plan_encoder(index, settings, width, height)
    return _encode(path, _pictures(rgb, source, index, plan), gops, plan)


def _pictures(
    rgb: np.ndarray, source: Iterable[VideoFrame] | None, index: VideoIndex, plan: EncoderPlan
) -> Iterator[VideoFrame]:
    reformatter, back = VideoReformatter(), VideoReformatter()
    origins = repeat(None, len(rgb)) if source is None else source
    for image, origin in zip(rgb, origins, strict=True):
        picture = stored_frame(image, index, plan.pix_fmt, reformatter)
        if origin is not None:
            before = model_picture(origin, index, back)
            if before.shape == image.shape:
                same = (before == image).all(-1, keepdims=True)
                keep_source_samples(picture, origin, as_stored(same, index.geometry.display_matrix)[..., 0])
            if has_alpha(plan.pix_fmt):
                keep_alpha(picture, origin, index.colour)
        yield picture


def encode_source_segment(
    path: str,
    frames: Iterable[VideoFrame],
    gops: Sequence[int],
    index: VideoIndex,
    settings: EncodeSettings,
) -> Segment:
    """Encode decoded frames as they are: planes are copied, not converted, where the codec allows.

    Args and errors as `encode_rgb_segment`; ``frames`` is consumed one at a time.
    """
    plan = plan_encoder(index, settings, index.geometry.width, index.geometry.height)
    same_layout = plan.pix_fmt == index.pix_fmt.replace("yuvj", "yuv")
    reformatter = VideoReformatter()
    pictures = (
        frame if same_layout else convert_frame(frame, plan.colour, plan.pix_fmt, reformatter)
        for frame in frames
    )
    return _encode(path, pictures, gops, plan)


def _encode(path: str, pictures: Iterator[VideoFrame], gops: Sequence[int], plan: EncoderPlan) -> Segment:
    if not gops or min(gops) < 1:
        raise ValueError(f"groups of pictures must have at least one frame each, not {list(gops)}")
    try:
        extradata, pts = _write(path, pictures, gops, plan)
    except (FFmpegError, OSError) as error:
        raise ChunkError(
            f"{plan.codec} could not encode {plan.width}x{plan.height} {plan.pix_fmt} pictures "
            f"({error}); choose another encode.codec.",
            code="encode_failed",
        ) from error
    return _read_back(path, presentation_ranks(pts), plan, extradata)


def _write(
    path: str, pictures: Iterator[VideoFrame], gops: Sequence[int], plan: EncoderPlan
) -> tuple[bytes, list[int]]:
    """Returns the codec's headers, and the times of the packets as they lie in the file."""
    pts: list[int] = []
    with av.open(path, "w", format="matroska", container_options={"fflags": "+bitexact"}) as container:
        # The header comes from an encoder set up like those that make the packets.
        stream: VideoStream = container.add_stream(plan.codec, rate=plan.rate)
        configure(stream.codec_context, plan)
        if has_alpha(plan.pix_fmt):
            # Without this mark Matroska readers take VP9 for opaque.
            stream.metadata["alpha_mode"] = "1"
        container.start_encoding()
        extradata = stream.codec_context.extradata or b""
        start = 0
        for frames in gops:
            pts += _write_gop(container, stream, islice(pictures, frames), start, frames, plan, extradata)
            start += frames
    if next(pictures, None) is not None:
        raise ValueError(f"more frames than the groups of pictures {list(gops)} hold")
    return bytes(extradata), pts


def _write_gop(
    container: OutputContainer,
    stream: VideoStream,
    pictures: Iterable[VideoFrame],
    start: int,
    frames: int,
    plan: EncoderPlan,
    extradata: bytes,
) -> list[int]:
    encoder = open_encoder(plan)
    written: list[int] = []
    for packet in _encode_gop(encoder, pictures, plan):
        # Copied bytes: the packet's own clock and stream belong to the encoder that made it.
        copy = Packet(bytes(packet))
        copy.stream = stream
        copy.time_base = _MILLISECOND
        copy.pts = (start + (packet.pts or 0) + _START_FRAMES) * FRAME_MS
        copy.dts = (start + len(written)) * FRAME_MS
        copy.duration = FRAME_MS
        copy.is_keyframe = packet.is_keyframe
        if packet.has_sidedata(_ALPHA_SIDE_DATA):
            copy.set_sidedata(packet.get_sidedata(_ALPHA_SIDE_DATA))
        written.append(start + (packet.pts or 0))
        container.mux_one(copy)
    if len(written) != frames:
        raise ChunkError(
            f"{plan.codec} made {len(written)} packets of {frames} frames; report this codec setting.",
            code="encode_failed",
        )
    if (encoder.extradata or b"") != extradata:
        raise ChunkError(
            f"{plan.codec} gave one group of pictures other headers than the rest, so they cannot be "
            "joined; choose another encode.codec.",
            code="encode_failed",
        )
    return written


def _field_marker(plan: EncoderPlan) -> Callable[[VideoFrame], VideoFrame]:
    """Mark frames as top field first.

    x264 compares every frame with its own setting and reconfigures itself at a difference, which
    even costs lossless coding its exactness. PyAV has no setter for the mark; a filter has.
    """
    if plan.fields != "tff":
        return lambda frame: frame
    graph = Graph()
    layout = VideoFormat(plan.pix_fmt, plan.width, plan.height)
    source = graph.add_buffer(width=plan.width, height=plan.height, format=layout, time_base=1 / plan.rate)
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()

    def mark(frame: VideoFrame) -> VideoFrame:
        graph.push(frame)
        marked: Any = graph.pull()
        return marked

    return mark


def _encode_gop(
    encoder: VideoCodecContext, pictures: Iterable[VideoFrame], plan: EncoderPlan
) -> Iterator[Packet[Any]]:
    mark = _field_marker(plan)
    for i, picture in enumerate(pictures):
        clean = clean_copy(picture, plan.pix_fmt)
        clean.time_base = encoder.time_base
        clean.pts = i
        # ProRes reads its tags from the frames, all others from the context.
        clean.colorspace, clean.color_range = plan.colour.matrix, plan.colour.range
        clean.color_primaries, clean.color_trc = plan.colour.primaries, plan.colour.transfer
        yield from encoder.encode(mark(clean))
    yield from encoder.encode(None)


def _read_back(path: str, ranks: list[int], plan: EncoderPlan, extradata: bytes) -> Segment:
    """Decode the file just written: what it holds is what the segment promises."""
    frames = len(ranks)
    hashes, count = [], DecodeCount()
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream, alpha=has_alpha(plan.pix_fmt))
        for frame in decode_stream(container, stream, decoder, count):
            hashes.append(hash64(frame))
    if len(hashes) != frames or count.errors or count.corrupt:
        raise ChunkError(
            f"{plan.codec} wrote {frames} frames, but {len(hashes)} could be decoded again "
            f"({count.errors} errors); choose another encode.codec.",
            code="encode_failed",
        )
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Segment(
        frames=frames,
        frame_hashes=Hashes(hashes),
        ranks=Integers(ranks),
        codec=plan.codec,
        pix_fmt=plan.pix_fmt,
        width=plan.width,
        height=plan.height,
        extradata_md5=hashlib.md5(extradata, usedforsecurity=False).hexdigest(),
        size=os.path.getsize(path),
        sha256=sha256,
    )
