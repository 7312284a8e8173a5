"""What a job says about how its sources were degraded, as validated frozen values.

Noise figures are standard deviations on the [0, 1] pixel range; lengths are pixels of the source frame;
angles are degrees counter-clockwise from the x axis.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from jobs.places import Place
from jobs.spec_base import Section, problem

Noise = Annotated[float, Field(ge=0.0, lt=1.0)]
Position = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=1)]
LARGEST_SCALE = 16
BlurWidth = Annotated[float, Field(gt=0.0, le=50.0)]
Angle = Annotated[float, Field(ge=-360.0, le=360.0)]
Padding = Literal["reflect", "circular"]
Orientation = Literal["horizontal", "vertical"]
Box = Annotated[tuple[Position, Position, Length, Length], Field(strict=False)]


class Denoise(Section):
    """y = x + n."""

    kind: Literal["denoise"]
    noise: Annotated[float, Field(gt=0.0, lt=1.0)]


class ShotNoise(Section):
    """Photon noise: y = Poisson(peak x) / peak on [0, 1]; ``peak`` photons make white."""

    kind: Literal["shot_noise"]
    peak: Annotated[float, Field(ge=1.0, le=1e6)]


class SaltAndPepper(Section):
    """A share ``fraction`` of the pixels is black or white; ``noise`` is that of the others."""

    kind: Literal["salt_and_pepper"]
    fraction: Annotated[float, Field(gt=0.0, le=0.9)]
    noise: Noise = 0.0


class SuperResolution(Section):
    """y = downscale(x, scale) + n: the output is ``scale`` times as wide and high as the source."""

    kind: Literal["super_resolution"]
    scale: Annotated[int, Field(ge=2, le=LARGEST_SCALE)]
    kernel: Literal["area", "bicubic"] = "area"
    noise: Noise = 0.0


class RandomHoles(Section):
    """Pixels missing independently, each with probability ``share``; the mask is drawn from ``seed``."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Annotated[int, Field(ge=0)] = 0


class StripeHoles(Section):
    """``width`` missing lines in every ``period``, the first one at line ``offset``."""

    period: Annotated[int, Field(ge=2)]
    width: Annotated[int, Field(ge=1)]
    offset: Annotated[int, Field(ge=0)] = 0
    orientation: Orientation = "horizontal"

    @model_validator(mode="after")
    def _some_lines_stay(self) -> Self:
        if self.width >= self.period:
            raise problem(
                f"{self.width} of every {self.period} lines leaves none; use 1 to {self.period - 1}", "width"
            )
        return self


class Inpainting(Section):
    """y = m x + n. The hole is a mask picture (white = to be filled) or a video with one such picture per
    frame, boxes [x, y, width, height], random pixels or stripes."""

    kind: Literal["inpainting"]
    mask: Place | None = None
    boxes: Annotated[tuple[Box, ...], Field(min_length=1, strict=False)] | None = None
    random: RandomHoles | None = None
    stripes: StripeHoles | None = None
    noise: Noise = 0.0

    @model_validator(mode="after")
    def _one_kind_of_hole(self) -> Self:
        ways = ("mask", "boxes", "random", "stripes")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else f"none of {', '.join(ways[:-1])} and {ways[-1]}"
            raise problem(
                f"found {found}; give exactly one: 'mask: holes.png', 'boxes: [[x, y, w, h]]', "
                "'random: {share: 0.5}' or 'stripes: {period: 8, width: 2}'"
            )
        return self


class _Deblur(Section):
    """y = k * x + n; the subclasses say what k is. ``padding`` is what the picture was surrounded by."""

    kind: Literal["deblur"]
    padding: Padding = "reflect"
    noise: Noise = 0.0


class GaussianDeblur(_Deblur):
    """k an isotropic Gaussian of ``sigma`` pixels."""

    kernel: Literal["gaussian"]
    sigma: BlurWidth


class MotionDeblur(_Deblur):
    """k a straight line of ``length`` pixels at ``angle`` degrees."""

    kernel: Literal["motion"]
    length: Annotated[float, Field(gt=1.0, le=401.0)]
    angle: Angle = 0.0


class AnisotropicDeblur(_Deblur):
    """k a Gaussian of ``sigma`` pixels along ``angle`` and ``sigma_across`` across it."""

    kernel: Literal["anisotropic"]
    sigma: BlurWidth
    sigma_across: BlurWidth
    angle: Angle = 0.0


class DiskDeblur(_Deblur):
    """k a disk of ``radius`` pixels: a lens out of focus."""

    kernel: Literal["disk"]
    radius: BlurWidth


class BoxDeblur(_Deblur):
    """k the mean over squares of ``side`` pixels."""

    kernel: Literal["box"]
    side: Annotated[int, Field(ge=2, le=401)]


class LensDeblur(_Deblur):
    """Gaussian blur of light rather than codes, of ``sigma`` pixels at the centre and ``sigma_edge`` in the
    corners."""

    kernel: Literal["lens"]
    sigma: BlurWidth
    sigma_edge: BlurWidth


Deblur = Annotated[
    GaussianDeblur | AnisotropicDeblur | MotionDeblur | DiskDeblur | BoxDeblur | LensDeblur,
    Field(discriminator="kernel"),
]


Part = Annotated[SuperResolution | Deblur, Field(discriminator="kind")]


class Composition(Section):
    """y = A_n ... A_1 x + n: blurs and enlargements in the order in which they happened.

    ``scale`` is the product of those of the parts and need not be written. Noise is that of the whole.
    """

    kind: Literal["composition"]
    parts: Annotated[tuple[Part, ...], Field(min_length=2, max_length=4, strict=False)]
    scale: Annotated[int, Field(ge=1)] = 1
    noise: Noise = 0.0

    @model_validator(mode="before")
    @classmethod
    def _scale_of_the_parts(cls, value: Any) -> Any:
        if (
            not isinstance(value, dict)
            or "scale" in value
            or not isinstance(value.get("parts"), list | tuple)
        ):
            return value
        scales = [part.get("scale", 1) for part in value["parts"] if isinstance(part, dict)]
        whole = all(isinstance(scale, int) for scale in scales)
        return {**value, "scale": math.prod(scales)} if whole else value

    @model_validator(mode="after")
    def _parts_make_a_linear_whole(self) -> Self:
        for at, part in enumerate(self.parts):
            if part.noise > 0.0:
                raise problem("noise is added once, after all parts; move it up", f"parts.{at}.noise")
            if isinstance(part, LensDeblur):
                raise problem("lens blur cannot be a part; use gaussian or disk", f"parts.{at}.kernel")
        product = math.prod(part.scale for part in self.parts if isinstance(part, SuperResolution))
        if product > LARGEST_SCALE:
            raise problem(f"the parts shrink by {product}; at most {LARGEST_SCALE} is possible", "parts")
        if self.scale != product:
            raise problem(f"the parts shrink by {product}; write that or leave scale out", "scale")
        return self


class Destriping(Section):
    """y = x + line offsets + n. Offsets that vary over at most ``longest_period`` lines are unknown."""

    kind: Literal["destriping"]
    orientation: Orientation = "horizontal"
    longest_period: Annotated[float, Field(ge=2.0, le=10000.0)] = 32.0
    noise: Noise = 0.0


class Colorization(Section):
    """y = grey of x + n: BT.601 luma, or the mean of the channels."""

    kind: Literal["colorization"]
    weights: Literal["luma", "mean"] = "luma"
    noise: Noise = 0.0


class Jpeg(Section):
    """y = JPEG of x, ``quality`` as in libjpeg, every frame on its own."""

    kind: Literal["jpeg"]
    quality: Annotated[int, Field(ge=1, le=100)]
    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0"


class Clipping(Section):
    """y = clip(gain x) + n around mid-grey: lost highlights and shadows."""

    kind: Literal["clipping"]
    gain: Annotated[float, Field(ge=1.0, le=16.0)] = 2.0
    noise: Noise = 0.0


class Auto(Section):
    """Estimated from each video: white noise, Gaussian blur, opaque overlays. May be written as a word."""

    kind: Literal["auto"]


class Flicker(Section):
    """y = g x + n on [0, 1]: exposure that pulses from frame to frame and, with a rolling shutter, by row.

    Gains are 1 + ``depth`` sin(2 pi (``cycles_per_frame`` t + row / ``rows_per_cycle`` + ``phase``)), t the
    frame's number in the video; without ``rows_per_cycle`` frames flicker as wholes.
    """

    kind: Literal["flicker"]
    depth: Annotated[float, Field(gt=0.0, le=0.9)]
    cycles_per_frame: Annotated[float, Field(ge=0.0, le=1000.0)]
    rows_per_cycle: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    phase: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    noise: Noise = 0.0


class TemporalBlur(Section):
    """y_t = mean of the ``taps`` frames around t + n: a slow shutter, or frames blended with neighbours.

    Frames are restored together: it must be the first item of ``enhance``, with ``sharing: none``.
    """

    kind: Literal["temporal_blur"]
    taps: Annotated[int, Field(ge=3, le=13)]
    noise: Noise = 0.0

    @field_validator("taps")
    @classmethod
    def _is_odd(cls, taps: int) -> int:
        if taps % 2 == 0:
            raise problem(f"{taps} is even; a blur centred on a frame has 3, 5, 7, 9, 11 or 13")
        return taps


#: Degradations after which there are fewer frames than before, and what a job does instead.
CHANGE_THE_COUNT = {
    "temporal_average": "a job keeps every frame and its time; frames that were blended with neighbours "
    "at an unchanged rate are 'temporal_blur'",
    "temporal_subsampling": "a job keeps every frame and its time; no frames are made between them",
    "frame_interpolation": "a job keeps every frame and its time; no frames are made between them",
    "interlace": "a job keeps every frame and its time; 'video: {interlaced: auto}' makes one whole picture "
    "of each (bwdif) before a model sees them",
}


Degradation = (
    Auto
    | Denoise
    | ShotNoise
    | SaltAndPepper
    | SuperResolution
    | Inpainting
    | Deblur
    | Composition
    | Destriping
    | Colorization
    | Jpeg
    | Clipping
    | Flicker
    | TemporalBlur
)

#: The values of ``kind``.
KINDS = tuple(
    get_args(part.model_fields["kind"].annotation)[0] if hasattr(part, "model_fields") else "deblur"
    for part in get_args(Degradation)
)
