"""The plain PyAV loops that `bench video` runs against: the same libav work and nothing else.

No hashes, no index, no checks, no seeking; one decoder and one encoder for the whole clip, in one thread like
ours.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import av
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.video.carry import packet_seconds
from pipeline.video.colour import frame_to_rgb
from pipeline.video.encoders import EncoderPlan, configure
from pipeline.video.types import VideoIndex


def decode(path: str, stream: int = 0) -> Iterator[VideoFrame]:
    """All frames of a stream, in one thread."""
    with av.open(path) as container:
        video: Any = container.streams[stream]
        video.thread_type = "NONE"
        video.codec_context.thread_count = 1
        yield from container.decode(video)


def decode_all(path: str, stream: int = 0) -> int:
    """Decode and drop all frames; returns their number."""
    return sum(1 for _ in decode(path, stream))


def decode_all_rgb(path: str, index: VideoIndex) -> int:
    """Decode all frames and convert each to RGB by the same swscale call; returns their number."""
    reformatter, frames = VideoReformatter(), 0
    for frame in decode(path, index.stream):
        frame_to_rgb(frame, index.colour, index.bit_depth, reformatter)
        frames += 1
    return frames


def with_gop(plan: EncoderPlan, frames: int) -> EncoderPlan:
    """The same encoder with a closed group of pictures every ``frames`` frames of its own accord."""
    own = f"keyint={frames}"
    options = tuple((name, value.replace("keyint=infinite", own)) for name, value in plan.options)
    return replace(plan, options=options)


def encode_all(path: str, frames: Iterable[VideoFrame], plan: EncoderPlan, gop: int) -> None:
    """One encoder instance into a Matroska file. Frames lose their picture types and get new times."""
    with av.open(path, "w", format="matroska") as out:
        _encode(out, frames, with_gop(plan, gop))


def transcode(source: str, index: VideoIndex, path: str, plan: EncoderPlan, gop: int) -> None:
    """Decode, encode and mux the video alone, one frame at a time."""
    with av.open(path, "w", format="mp4", container_options={"movflags": "+faststart"}) as out:
        _encode(out, decode(source, index.stream), with_gop(plan, gop))


def remux(video: str, source: str, path: str) -> None:
    """Packets of an encoded video and of the source's sound into an MP4 file with its header in front."""
    options = {"movflags": "+faststart"}
    with (
        av.open(video) as coded,
        av.open(source) as given,
        av.open(path, "w", format="mp4", container_options=options) as out,
    ):
        both = ((coded, list(coded.streams.video[:1])), (given, list(given.streams.audio)))
        copied = [(container, streams) for container, streams in both if streams]
        # All streams before the first packet: that one writes the header.
        targets = [{s.index: out.add_stream_from_template(s, opaque=True) for s in of} for _, of in copied]
        packets = [_packets(c, of, to) for (c, of), to in zip(copied, targets, strict=True)]
        for packet in heapq.merge(*packets, key=packet_seconds):
            out.mux_one(packet)


def _packets(container: Any, streams: list[Any], targets: dict[int, Any]) -> Iterator[Any]:
    for packet in container.demux(streams):
        if packet.size:
            packet.stream = targets[packet.stream_index]
            yield packet


def _encode(out: Any, frames: Iterable[VideoFrame], plan: EncoderPlan) -> None:
    stream = out.add_stream(plan.codec, rate=plan.rate)
    configure(stream.codec_context, plan)
    for i, frame in enumerate(frames):
        frame.pict_type = PictureType.NONE
        frame.pts, frame.time_base = i, 1 / plan.rate
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
