"""The codec and the container of results: the ``encode`` part of a job file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.spec_base import Section, problem
from pipeline.settings import Container, EncodeSettings

# Container -> codecs whose streams it can carry.
_CARRIES: dict[str, tuple[str, ...]] = {
    "mp4": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "h264_nvenc", "hevc_nvenc", "av1_nvenc"),
    "mkv": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks",
            "h264_nvenc", "hevc_nvenc", "av1_nvenc"),
    "mov": ("libx264", "libx265", "prores_ks", "h264_nvenc", "hevc_nvenc"),
    "webm": ("libsvtav1", "libvpx-vp9", "av1_nvenc"),
}  # fmt: skip
#: Codecs that can store transparency (in mp4 none can).
ALPHA_CODECS = ("libvpx-vp9", "prores_ks", "ffv1", "copy")
_MAX_CRF = {"libx264": 51, "libx265": 51, "libsvtav1": 63, "libvpx-vp9": 63,
            "h264_nvenc": 51, "hevc_nvenc": 51, "av1_nvenc": 63}  # fmt: skip


class EncodeSpec(Section):
    """The final codec. ``crf`` is the codec's own scale (the constant quantizer of ``*_nvenc``); ffv1 and
    prores_ks have none and ignore it. ``copy`` publishes the sources' own bytes."""

    codec: Literal[
        "libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks",
        "h264_nvenc", "hevc_nvenc", "av1_nvenc", "copy",
    ] = "libx264"  # fmt: skip
    crf: Annotated[int, Field(ge=0, le=63)] = EncodeSettings.crf
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast",
        "medium", "slow", "slower", "veryslow", "placebo",
    ] = "medium"  # fmt: skip
    container: Container = EncodeSettings.container
    threads: Annotated[int, Field(ge=1, le=64)] = EncodeSettings.threads

    @model_validator(mode="after")
    def _codec_fits(self) -> Self:
        if self.codec == "copy" and self.container != "auto":
            raise problem(
                f"codec copy keeps every source's container, found {self.container!r}; set it to auto, or "
                "choose another codec",
                "container",
            )
        if self.container != "auto" and self.codec not in _CARRIES[self.container]:
            homes = [name for name, codecs in _CARRIES.items() if self.codec in codecs]
            raise problem(
                f"{self.container} cannot carry {self.codec}; use container {' or '.join(homes)} (or auto), "
                f"or a codec of {', '.join(_CARRIES[self.container])}",
                "container",
            )
        most = _MAX_CRF.get(self.codec)
        if most is not None and self.crf > most:
            raise problem(f"must be at most {most} for {self.codec}, found {self.crf}", "crf")
        return self
