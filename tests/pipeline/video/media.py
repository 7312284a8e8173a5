"""Small synthetic videos, made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from pipeline.settings import EncodeSettings, Limits
from pipeline.video.assemble import assemble
from pipeline.video.container import choose_container
from pipeline.video.decode import decode_frames
from pipeline.video.encode import encode_source_segment
from pipeline.video.index import build_index
from pipeline.video.types import Assembly, Segment, VideoIndex

LOSSLESS = EncodeSettings(codec="libx264", crf=0, preset="ultrafast")
LOSSY = EncodeSettings(codec="libx264", crf=23, preset="veryfast")


@dataclass(frozen=True)
class Clip:
    """What to synthesize. ``pts`` are in ``time_base``; colours change at ``cuts``; ``options`` are the
    encoder's, ``muxer`` the container's."""

    pts: Sequence[int] = tuple(range(0, 24 * 512, 512))
    time_base: Fraction = Fraction(1, 12_800)
    width: int = 64
    height: int = 48
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    gop: int = 8
    cuts: Sequence[int] = ()
    tags: tuple[int, int, int, int] = (0, 2, 2, 2)
    sar: Fraction = Fraction(1)
    audio: str | None = None
    audio_rate: int = 48_000
    matrix: tuple[int, ...] | None = None
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)


def picture(i: int, width: int, height: int, scene: int = 0) -> np.ndarray:
    """A moving textured picture, uint8 [h, w, 3]; each scene has its own colours."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.array([(60, 110, 170), (200, 60, 40), (30, 180, 60), (220, 220, 90)][scene % 4])
    wave = 25 * np.sin((x + 2 * i) / 5.0) + 20 * np.cos((y - i) / 4.0)
    return np.clip(base + wave[..., None], 0, 255).astype(np.uint8)


def make_clip(path: Path, clip: Clip | None = None) -> str:
    """Write a clip; the suffix decides the container."""
    clip = clip or Clip()
    with av.open(str(path), "w", container_options=dict(clip.muxer)) as out:
        video = _video_stream(out, clip)
        audio = out.add_stream(clip.audio, rate=clip.audio_rate) if clip.audio else None
        if audio is not None:
            audio.metadata["language"] = "ger"
            seconds = float((clip.pts[-1] - clip.pts[0]) * clip.time_base) + 0.2
            for packet in _sound_packets(audio, seconds):
                out.mux(packet)
        for i, pts in enumerate(clip.pts):
            scene = sum(cut <= i for cut in clip.cuts)
            frame = VideoFrame.from_ndarray(picture(i, clip.width, clip.height, scene), "rgb24")
            frame = frame.reformat(format=clip.pix_fmt)
            frame.pts, frame.time_base = pts, clip.time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return str(path)


def _video_stream(out: Any, clip: Clip) -> Any:
    video = out.add_stream(clip.codec, rate=25, options=dict(clip.options))
    context = video.codec_context
    context.width, context.height, context.pix_fmt = clip.width, clip.height, clip.pix_fmt
    context.time_base, context.gop_size = clip.time_base, clip.gop
    context.sample_aspect_ratio = clip.sar
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = clip.tags
    if clip.codec == "libx264":
        context.options = {
            "preset": "veryfast",
            "x264-params": f"keyint={clip.gop}:scenecut=0",
            **clip.options,
        }
    if clip.matrix is not None:
        video.set_display_matrix(clip.matrix)
    return video


def _sound_packets(stream: Any, seconds: float) -> list[Any]:
    context = stream.codec_context
    count = int(seconds * context.sample_rate)
    wave = np.sin(np.arange(count) / 20.0).astype(np.float32) * 0.3
    whole = np.stack([wave, wave])
    if context.format is not None and context.format.name == "s16":
        frame = av.AudioFrame.from_ndarray(
            (whole * 32_767).astype(np.int16).T.reshape(1, -1), "s16", "stereo"
        )
    else:
        frame = av.AudioFrame.from_ndarray(whole, "fltp", "stereo")
    frame.sample_rate, frame.pts = context.sample_rate, 0
    return [*stream.encode(frame), *stream.encode(None)]


def remux(
    path: str,
    target: Path,
    *,
    times: Callable[[int], int] | None = None,
    durations: Callable[[int], int] | None = None,
    options: dict[str, str] | None = None,
) -> str:
    """Copy the first video stream packet by packet.

    ``times`` gives packet i its pts and dts in the target's own time base, ``durations`` gives a
    packet its duration by its pts; ``options`` are the muxer's.
    """
    with av.open(path) as source, av.open(str(target), "w", container_options=options or {}) as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        out.start_encoding()
        for i, packet in enumerate(p for p in source.demux(source.streams.video[0]) if p.size):
            packet.stream = stream
            if times is not None:
                packet.time_base = stream.time_base
                packet.pts = packet.dts = times(i)
            if durations is not None:
                packet.duration = durations(packet.pts)
            out.mux_one(packet)
    return str(target)


def index_of(path: str) -> VideoIndex:
    """Index with default limits."""
    return build_index(path, f"s3://catalog/{Path(path).name}", Limits(), "digest")


def chunked(frames: int, chunk: int, gop: int) -> list[tuple[int, int, list[int]]]:
    """Chunks of ``chunk`` groups of pictures of ``gop`` frames, as (a, b, group sizes)."""
    starts = list(range(0, frames, gop))
    groups = [min(gop, frames - a) for a in starts]
    return [
        (starts[i], starts[i] + sum(groups[i : i + chunk]), groups[i : i + chunk])
        for i in range(0, len(starts), chunk)
    ]


@dataclass(frozen=True)
class RoundTrip:
    """One identity run: what was written and what it was made from."""

    output: str
    segments: list[Segment]
    segment_paths: list[str]
    assembly: Assembly


def identity(
    path: str, index: VideoIndex, folder: Path, settings: EncodeSettings, chunk: int = 2, gop: int = 12
) -> RoundTrip:
    """Decode, encode and assemble a whole file, ``chunk`` groups of pictures per segment."""
    folder.mkdir(parents=True, exist_ok=True)
    segments, paths = [], []
    for n, (a, b, groups) in enumerate(chunked(index.frames, chunk, gop)):
        paths.append(str(folder / f"{n}.mkv"))
        frames = decode_frames(path, index, a, b)
        segments.append(encode_source_segment(paths[-1], frames, groups, index, settings))
    container = choose_container(index, settings)
    output = str(folder / f"out.{container}")
    assembly = assemble(path, index, paths, segments, output, container, settings)
    return RoundTrip(output, segments, paths, assembly)


def all_hashes(segments: Sequence[Segment]) -> list[str]:
    """Frame digests of all segments in order."""
    return [digest for segment in segments for digest in segment.frame_hashes]
