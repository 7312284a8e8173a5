"""Which container an output gets: a pure rule over what the source carries."""

from __future__ import annotations

from itertools import pairwise

from pipeline.errors import SpecError
from pipeline.settings import EncodeSettings
from pipeline.video.nvenc import NVENC
from pipeline.video.types import StreamSummary, VideoIndex

_VIDEO_CODECS = {
    "mp4": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", *NVENC),
    "mov": ("libx264", "libx265", "prores_ks", "h264_nvenc", "hevc_nvenc"),
    "webm": ("libvpx-vp9", "libsvtav1", "av1_nvenc"),
    "mkv": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", *NVENC),
}
# Canonical FFmpeg codec names that each container takes as they are.
_AUDIO = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac", "mp2", "mp1", "dts", "truehd"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be"),
    "webm": ("opus", "vorbis"),
}
_SUBTITLES = {"mp4": ("mov_text", "dvd_subtitle"), "mov": ("mov_text",), "webm": ("webvtt",)}


def choose_container(index: VideoIndex, settings: EncodeSettings) -> str:
    """``mp4``, ``mkv``, ``webm`` or ``mov``.

    The user's wish comes first. Otherwise MP4 when it takes the codec and every audio, subtitle and
    attachment stream, else Matroska; but Matroska counts milliseconds, so when two frames would
    fall on the same one, MP4 is kept and what it cannot carry is dropped and listed. ProRes goes to
    MOV and transparent VP9 to WebM, or to Matroska when these cannot carry the rest.

    Raises:
        SpecError: the wished container cannot hold ``encode.codec`` or these frame times.
    """
    if settings.container != "auto":
        _check_wish(index, settings)
        return settings.container
    preferred = "mov" if settings.codec == "prores_ks" else "mp4"
    if index.treatment.alpha and settings.codec == "libvpx-vp9":
        preferred = "webm"
    fits = settings.codec in _VIDEO_CODECS[preferred]
    if fits and all(_carries(preferred, stream, index) for stream in index.streams):
        return preferred
    if merges_in_milliseconds(index):
        if fits:
            return preferred
        raise SpecError(
            f"encode.codec: {settings.codec} needs Matroska, whose milliseconds would merge frames of this "
            "video; use libx264.",
            field="encode.codec",
        )
    return "mkv"


def merges_in_milliseconds(index: VideoIndex) -> bool:
    """Whether two frames of the video would get the same Matroska timestamp."""
    scale = index.time_base * 1000
    half = scale.denominator // 2
    ticks = ((pts * scale.numerator + half) // scale.denominator for pts in index.pts)
    return any(a == b for a, b in pairwise(ticks))


def _check_wish(index: VideoIndex, settings: EncodeSettings) -> None:
    if settings.codec not in _VIDEO_CODECS.get(settings.container, ()):
        raise SpecError(
            f"encode.container: {settings.container} cannot hold {settings.codec}; use mkv or auto.",
            field="encode.container",
        )
    if settings.container in ("mkv", "webm") and merges_in_milliseconds(index):
        raise SpecError(
            f"encode.container: {settings.container} counts milliseconds and would merge frames of this "
            "video; use mp4.",
            field="encode.container",
        )


def _carries(container: str, stream: StreamSummary, index: VideoIndex) -> bool:
    """Data streams fit nowhere and other video streams nearly everywhere, so neither decides."""
    if stream.kind == "audio":
        return stream.codec in _AUDIO[container]
    if stream.kind == "subtitle":
        return stream.codec in _SUBTITLES[container]
    return stream.kind != "attachment"
