"""How each supported encoder is set up so that equal frames give equal bits, anywhere.

Threads are fixed by the job, parameter sets do not depend on quality or length, and an instance
encodes exactly one closed group of pictures.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction

import av
from av.codec import Codec
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from pipeline.errors import SpecError
from pipeline.settings import EncodeSettings
from pipeline.video.geometry import scaled_sar
from pipeline.video.nvenc import NVENC, nvenc_options, nvenc_pix_fmt
from pipeline.video.types import Colour, Hdr, VideoIndex

_BOTTOM_FIRST = (3, 5)
_SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
           "placebo")  # fmt: skip
_SVT_PRESETS = (12, 11, 10, 9, 8, 7, 6, 4, 3, 2)
_SVT_LOSSLESS_FASTEST = 10
_VP9_CPU_USED = (8, 7, 6, 5, 4, 3, 2, 1, 0, 0)
# Encoders use the rate for rate control only; each has its own idea of an impossible one.
_SLOWEST, _FASTEST = Fraction(1), Fraction(240)

SUPPORTED = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", *NVENC)
HDR_ENCODERS = ("libx264", "libx265", "libsvtav1")
_LOSSLESS_AT_ZERO = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "h264_nvenc", "hevc_nvenc")
# Up to these a picture is meant to look like what went in; beyond, the user wants it small.
_FAITHFUL_CRF, _FAITHFUL_AV1_CRF = 35, 45


@dataclass(frozen=True)
class EncoderPlan:
    """Everything an encoder instance depends on.

    ``fields``: ``prog`` for whole pictures, ``tff`` or ``bff`` for interlaced coding.
    """

    codec: str
    pix_fmt: str
    width: int
    height: int
    rate: Fraction
    sample_aspect_ratio: Fraction
    colour: Colour
    threads: int
    fields: str
    options: tuple[tuple[str, str], ...]


def plan_encoder(index: VideoIndex, settings: EncodeSettings, width: int, height: int) -> EncoderPlan:
    """Settle pixel format, tags and options for pictures of ``width`` x ``height``.

    Raises:
        SpecError: ``encode.codec`` or ``encode.preset`` is unknown.
    """
    if settings.codec not in SUPPORTED:
        raise SpecError(
            f"encode.codec: {settings.codec!r} is not supported; use one of {', '.join(SUPPORTED)}.",
            field="encode.codec",
        )
    stored = index.geometry
    same_size = (width, height) == (stored.width, stored.height)
    treated = index.treatment.deinterlace or index.treatment.turn
    woven = index.interlaced_frames * 2 > index.frames and not treated
    interlaced = same_size and woven and height % 4 == 0
    fields = _fields(index.field_order) if interlaced and settings.codec == "libx264" else "prog"
    options = _options(settings, index.hdr, fields)
    return EncoderPlan(
        codec=settings.codec,
        pix_fmt=choose_pix_fmt(settings.codec, index.pix_fmt, width, height, alpha=index.treatment.alpha),
        width=width,
        height=height,
        rate=min(max(index.average_rate.limit_denominator(10_000), _SLOWEST), _FASTEST),
        sample_aspect_ratio=scaled_sar(stored, width, height),
        colour=index.colour,
        threads=settings.threads,
        fields=fields,
        options=tuple(sorted(options.items())),
    )


def describe_encoder(index: VideoIndex, settings: EncodeSettings, width: int, height: int) -> str:
    """The encoder with everything it was told, in one line for the manifest."""
    plan = plan_encoder(index, settings, width, height)
    options = " ".join(f"{name}={value}" for name, value in plan.options)
    return f"{plan.codec} {plan.width}x{plan.height} {plan.pix_fmt} threads={plan.threads} {options}".strip()


def is_lossless(settings: EncodeSettings) -> bool:
    """Whether decoded pictures have to equal those that were encoded."""
    return settings.codec == "ffv1" or (settings.crf == 0 and settings.codec in _LOSSLESS_AT_ZERO)


def expects_fidelity(settings: EncodeSettings) -> bool:
    """Whether the asked quality is such that an output far from its source must be an accident."""
    wide = settings.codec in ("libsvtav1", "libvpx-vp9", "av1_nvenc")
    return settings.codec == "prores_ks" or settings.crf <= (_FAITHFUL_AV1_CRF if wide else _FAITHFUL_CRF)


def open_encoder(plan: EncoderPlan) -> VideoCodecContext:
    """A fresh encoder. Tags are set before it opens: none is read from frames later."""
    context: VideoCodecContext = av.CodecContext.create(plan.codec, "w")
    configure(context, plan)
    context.flags |= Flags.global_header
    context.open()
    return context


def configure(context: VideoCodecContext, plan: EncoderPlan) -> None:
    """Set up an encoder that is not open yet."""
    if plan.codec == "libsvtav1":
        # Its only switch for the page of settings it prints for every instance (1: errors only).
        os.environ.setdefault("SVT_LOG", "1")
    context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
    context.framerate, context.time_base = plan.rate, 1 / plan.rate
    context.sample_aspect_ratio = plan.sample_aspect_ratio
    context.color_range, context.colorspace = plan.colour.range, plan.colour.matrix
    context.color_primaries, context.color_trc = plan.colour.primaries, plan.colour.transfer
    context.bit_rate = 0
    context.gop_size = 9999
    context.thread_count = plan.threads
    context.options = dict(plan.options)


def choose_pix_fmt(codec: str, source: str, width: int, height: int, *, alpha: bool = False) -> str:
    """The source's own format where the encoder takes it, else the nearest that loses nothing.

    ``alpha``: transparency is kept, else left out. 4:2:0 pictures of odd size become 4:4:4 in H.264 and
    HEVC, which cannot hold them. More bits than the encoder has come down to its deepest format.

    Raises:
        SpecError: the encoder has no format for these pictures.
    """
    if codec in NVENC and not alpha:
        return nvenc_pix_fmt(codec, source, width, height)
    offered = {f.name for f in Codec(codec, "w").video_formats or ()}
    plain = source.replace("yuvj", "yuv")
    wanted = _describe(plain)
    odd = bool(width % 2 or height % 2) and codec in ("libx264", "libx265")
    if plain in offered and wanted.alpha == alpha and not (odd and wanted.chroma != "444" and wanted.chroma):
        return plain
    depths = [*(d for d in (8, 10, 12, 16) if d >= wanted.bits), 12, 10, 8]
    chromas = _wider_chroma(wanted.chroma, odd)
    for bits in depths:
        for chroma in chromas:
            name = f"yuv{'a' if alpha else ''}{chroma}p" + ("" if bits == 8 else f"{bits}le")
            if name in offered:
                return name
    raise SpecError(
        f"encode.codec: {codec} has no pixel format for {source} at {width}x{height}"
        f"{' with its transparency' if alpha else ''}; use ffv1 or libx264.",
        field="encode.codec",
    )


@dataclass(frozen=True)
class _Layout:
    chroma: str
    bits: int
    alpha: bool


def _describe(name: str) -> _Layout:
    layout = VideoFormat(name, 16, 16)
    bits = max(c.bits for c in layout.components)
    alpha = any(c.is_alpha for c in layout.components)
    if layout.is_rgb or layout.has_palette:
        return _Layout("444", bits, alpha)
    if len(layout.components) < 3:
        return _Layout("", bits, alpha)
    chroma = layout.components[1]
    names = {(8, 8): "420", (8, 16): "422", (16, 8): "440", (16, 16): "444", (4, 16): "411", (4, 4): "410"}
    return _Layout(names.get((chroma.width, chroma.height), "444"), bits, alpha)


def _wider_chroma(chroma: str, odd: bool) -> tuple[str, ...]:
    if odd or chroma in ("444", "440"):
        return ("444", "422", "420")
    if chroma in ("422", "411"):
        return ("422", "444", "420")
    return ("420", "422", "444")


def _options(settings: EncodeSettings, hdr: Hdr | None, fields: str) -> dict[str, str]:
    crf, lossless, threads = str(settings.crf), settings.crf == 0, settings.threads
    if settings.codec == "libx264":
        params = ["mbtree=0", "stitchable=1", "open-gop=0", "scenecut=0", "keyint=infinite",
                  "sliced-threads=0", *_x264_fields(fields), *_x264_hdr(hdr)]  # fmt: skip
        quality = {"qp": "0"} if lossless else {"crf": crf}
        return {"preset": settings.preset, **quality, "x264-params": ":".join(params)}
    if settings.codec == "libx265":
        params = ["open-gop=0", "info=0", "scenecut=0", "keyint=-1", "frame-threads=1", f"pools={threads}",
                  "log-level=error", *(["lossless=1"] if lossless else []),
                  *_x265_hdr(hdr)]  # fmt: skip
        return {"preset": settings.preset, "crf": crf, "x265-params": ":".join(params)}
    if settings.codec == "libsvtav1":
        params = [f"lp={threads}", "scd=0", *(["lossless=1"] if lossless else []), *_svt_hdr(hdr)]
        # Lossless at its fastest preset (12), SVT-AV1 writes pictures that are not, or do not decode at all.
        fastest = _SVT_LOSSLESS_FASTEST if lossless else max(_SVT_PRESETS)
        preset = str(min(_SVT_PRESETS[_speed(settings.preset)], fastest))
        return {"preset": preset, "crf": crf, "svtav1-params": ":".join(params)}
    if settings.codec == "libvpx-vp9":
        speed = str(_VP9_CPU_USED[_speed(settings.preset)])
        quality = {"lossless": "1"} if lossless else {"crf": crf}
        return {**quality, "deadline": "good", "cpu-used": speed, "row-mt": "0"}
    if settings.codec in NVENC:
        return nvenc_options(settings.codec, settings.crf, settings.preset)
    if settings.codec == "ffv1":
        return {"level": "3", "g": "1", "slices": "4", "slicecrc": "1"}
    return {}


def _speed(preset: str) -> int:
    if preset not in _SPEEDS:
        raise SpecError(
            f"encode.preset: {preset!r} is unknown; use one of {', '.join(_SPEEDS)}.", field="encode.preset"
        )
    return _SPEEDS.index(preset)


def _x264_fields(fields: str) -> list[str]:
    return [] if fields == "prog" else [f"{fields}=1"]


def _fields(field_order: int) -> str:
    """Frames may be interlaced though the container says nothing; then the top field is first, as in
    everything but DV and old standard definition MPEG-2, which do say so."""
    return "bff" if field_order in _BOTTOM_FIRST else "tff"


def _mastering(hdr: Hdr, chroma_unit: int, light_unit: int) -> tuple[list[int], list[int]]:
    assert hdr.mastering is not None
    numbers = [Fraction(n, d or 1) for n, d in hdr.mastering]
    return [round(n * chroma_unit) for n in numbers[:8]], [round(n * light_unit) for n in numbers[8:]]


def _integer_mastering(hdr: Hdr) -> str:
    """x264 and x265 spell primaries in 1/50000 and luminance in 1/10000 cd/m2."""
    (rx, ry, gx, gy, bx, by, wx, wy), (low, high) = _mastering(hdr, 50_000, 10_000)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"


def _x264_hdr(hdr: Hdr | None) -> list[str]:
    found = []
    if hdr and hdr.mastering:
        found.append(f"mastering-display={_integer_mastering(hdr)}")
    if hdr and hdr.content_light:
        found.append("cll={},{}".format(*hdr.content_light))
    return found


def _x265_hdr(hdr: Hdr | None) -> list[str]:
    found = []
    if hdr and hdr.mastering:
        found.append(f"master-display={_integer_mastering(hdr)}")
    if hdr and hdr.content_light:
        found.append("max-cll={},{}".format(*hdr.content_light))
    return [*found, "hdr10=1", "repeat-headers=1"] if found else []


def _svt_hdr(hdr: Hdr | None) -> list[str]:
    found = []
    if hdr and hdr.mastering:
        (rx, ry, gx, gy, bx, by, wx, wy), (low, high) = _mastering(hdr, 50_000, 10_000)
        points = [f"{name}({x / 50_000:.5f},{y / 50_000:.5f})" for name, x, y in
                  (("G", gx, gy), ("B", bx, by), ("R", rx, ry), ("WP", wx, wy))]  # fmt: skip
        found.append(f"mastering-display={''.join(points)}L({high / 10_000:.4f},{low / 10_000:.4f})")
    if hdr and hdr.content_light:
        found.append("content-light={},{}".format(*hdr.content_light))
    return found
