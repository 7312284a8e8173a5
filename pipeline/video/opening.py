"""Opening files that came from outside, and decoding them in one fixed way.

Inputs are opened from a list of known demuxers with the ``file`` protocol only, so that no playlist
can name another resource. Decoding never uses frame threads: damaged streams decode differently
with them, and a retry must see the same pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

STILL_IMAGE_DEMUXERS = (
    "image2", "png_pipe", "jpeg_pipe", "jpegxl_pipe", "jpegxl_anim", "webp_pipe", "bmp_pipe", "tiff_pipe",
    "gif_pipe", "svg_pipe", "psd_pipe", "exr_pipe", "dpx_pipe", "j2k_pipe", "qoi_pipe", "pam_pipe",
    "ppm_pipe", "pgm_pipe", "jpegls_pipe", "hdr_pipe", "ico", "sgi_pipe", "sunrast_pipe", "pcx_pipe",
)  # fmt: skip
ELEMENTARY_DEMUXERS = ("h264", "hevc", "vvc", "m4v", "mpegvideo", "av1", "obu", "vc1", "mjpeg", "h263")
CONTAINER_DEMUXERS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "nut", "gif", "ivf",
    "rm", "dv", "y4m", "yuv4mpegpipe", "gxf", "wtv", "live_flv", "swf", "3gp", "mp4", "apng", "wav", "mp3",
    "aac", "flac", "aiff", "ac3", "eac3", "dts", "ape", "caf",
)  # fmt: skip
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass
class DecodeCount:
    """Running counts of one decode pass."""

    packets: int = 0
    errors: int = 0
    corrupt: int = 0


def open_media(path: str, max_pixels: int) -> AbstractContextManager[InputContainer]:
    """Open a local file by content; decoders refuse pictures above ``max_pixels``.

    Raises:
        av.error.FFmpegError, OSError: nothing known was recognised (callers translate it).
    """
    whitelist = ",".join(CONTAINER_DEMUXERS + ELEMENTARY_DEMUXERS + STILL_IMAGE_DEMUXERS)
    options = {"protocol_whitelist": "file", "format_whitelist": whitelist, "max_pixels": str(max_pixels)}
    # An absolute path cannot be read as an option or as a protocol ("-x.mp4", "concat:a|b").
    # Broken text in tags is no reason to refuse a video.
    return av.open(os.path.abspath(path), options=options, metadata_errors="replace")


class Decoder:
    """The decoder of one stream, in one thread: the only mode in which damaged streams always decode alike.

    ``alpha``: decode the transparency of VP8 and VP9, which FFmpeg's own decoders leave out without a word.
    ``max_pixels``: larger pictures are refused by the decoder.
    """

    def __init__(self, stream: VideoStream, *, alpha: bool = False, max_pixels: int | None = None) -> None:
        name = _ALPHA_DECODERS.get(stream.codec_context.codec.canonical_name) if alpha else None
        self._context: Any = stream.codec_context if name is None else CodecContext.create(name, "r")
        self._own = name is not None
        self._context.thread_type = "NONE"
        self._context.thread_count = 1
        if max_pixels is not None:
            self._context.options = {"max_pixels": str(max_pixels)}

    def decode(self, packet: Packet[Any], count: DecodeCount) -> list[VideoFrame]:
        """Frames that a packet releases; a packet that cannot be decoded counts as one error."""
        try:
            if not self._own:
                frames: list[VideoFrame] = packet.decode()
            else:
                frames = self._context.decode(packet if packet.size else None)
        except FFmpegError:
            count.errors += 1
            return []
        count.corrupt += sum(frame.is_corrupt for frame in frames)
        return frames


def has_hidden_alpha(stream: VideoStream) -> bool:
    """Whether a VP8 or VP9 stream carries transparency beside its pictures."""
    known = stream.codec_context.codec.canonical_name in _ALPHA_DECODERS
    # The header element is called alpha_mode, the tag that FFmpeg writes beside it ALPHA_MODE.
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    return known and tags.get("alpha_mode") == "1"


def demux(container: InputContainer, stream: VideoStream, count: DecodeCount) -> Iterator[Packet[Any]]:
    """Packets of one stream, the empty flush packet included; a read error ends the stream."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError:
            count.errors += 1
            return
        count.packets += packet.size > 0
        yield packet


def decode_stream(
    container: InputContainer, stream: VideoStream, decoder: Decoder, count: DecodeCount
) -> Iterator[VideoFrame]:
    """All frames of a stream from the current position on, in presentation order."""
    for packet in demux(container, stream, count):
        yield from decoder.decode(packet, count)
