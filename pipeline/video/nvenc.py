"""NVIDIA's hardware encoders: which formats and options they get, and whether this machine has one.

Never run on real hardware by us. They are set up like the others: constant quantizer, closed groups of
pictures, no frames between a picture and its successors (no B-frames, no lookahead), tags from the context.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import av
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from pipeline.errors import SpecError

NVENC = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
#: What a worker says when it cannot open the encoder: a fact of the job, not of one video.
UNAVAILABLE = "encoder_unavailable"

_INSTEAD = {"h264_nvenc": "libx264", "hevc_nvenc": "libx265", "av1_nvenc": "libsvtav1"}
# Constant quantizers go to 51 in H.264 and HEVC and to 255 in AV1, whose crf goes to 63.
_AV1_QUANTIZERS_PER_CRF = 4
_PRESETS = {
    "ultrafast": "p1", "superfast": "p1", "veryfast": "p2", "faster": "p3", "fast": "p3",
    "medium": "p4", "slow": "p5", "slower": "p6", "veryslow": "p7", "placebo": "p7",
}  # fmt: skip


def nvenc_options(codec: str, crf: int, preset: str) -> dict[str, str]:
    """FFmpeg's options of an NVENC encoder; ``crf`` becomes a constant quantizer, 0 lossless but for AV1.

    Raises:
        SpecError: ``encode.preset`` is unknown.
    """
    if preset not in _PRESETS:
        raise SpecError(
            f"encode.preset: {preset!r} is unknown; use one of {', '.join(_PRESETS)}.", field="encode.preset"
        )
    quantizer = crf * _AV1_QUANTIZERS_PER_CRF if codec == "av1_nvenc" else crf
    lossless = crf == 0 and codec != "av1_nvenc"
    quality = {"tune": "lossless"} if lossless else {"tune": "hq", "rc": "constqp", "qp": str(quantizer)}
    return {
        **quality,
        "preset": _PRESETS[preset],
        "bf": "0",
        "forced-idr": "1",
        "rc-lookahead": "0",
    }


def nvenc_pix_fmt(codec: str, source: str, width: int, height: int) -> str:
    """The format that an NVENC encoder gets: 4:2:0 or 4:4:4, 8 bits or 10 where the codec has them.

    Four-two-two becomes 4:4:4 where the codec has it. H.264 has 8 bits only, AV1 4:2:0 only. What a
    conversion loses is said in the output's warnings (``pixel_format_changed``).
    """
    layout = VideoFormat(source, 16, 16)
    deep = max(c.bits for c in layout.components) > 8 and codec != "h264_nvenc"
    halved = len(layout.components) >= 3 and not layout.is_rgb and not layout.has_palette
    chroma = layout.components[1] if halved else None
    is_420 = (chroma is None and len(layout.components) < 3) or (
        chroma is not None and (chroma.width, chroma.height) == (8, 8)
    )
    odd = bool(width % 2 or height % 2)
    if codec != "av1_nvenc" and (not is_420 or odd):
        return "yuv444p16le" if deep else "yuv444p"
    return "p010le" if deep else "yuv420p"


def check_encoder(codec: str) -> None:
    """Open the encoder once, if it is a hardware encoder; any other codec passes.

    Raises:
        SpecError: field ``encode.codec``, fact ``code`` = `UNAVAILABLE`.
    """
    reason = _refusal(codec) if codec in NVENC else ""
    if reason:
        raise SpecError(
            f"encode.codec: {codec} cannot be opened here, no usable NVENC device or driver was found "
            f"({reason}); use {_INSTEAD[codec]}, which encodes in software, or run where all nodes have "
            "NVENC.",
            field="encode.codec",
            code=UNAVAILABLE,
        )


@lru_cache
def _refusal(codec: str) -> str:
    """Why a small encoder of this kind does not open; empty when it does."""
    try:
        context: VideoCodecContext = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt = 320, 240, "yuv420p"
        context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
        context.options = nvenc_options(codec, 18, "medium")
        context.open()
    except (FFmpegError, ValueError) as error:
        return f"{type(error).__name__}"
    return ""
