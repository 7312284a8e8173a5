"""Frozen values that describe one video. Times are integers in a `Fraction` time base, never floats."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pipeline.video.integers import Hashes, Integers
from pipeline.video.looks import FrameLooks

Origin = Literal["source", "assumed"]
Deinterlace = Literal["", "flagged", "tff", "bff"]


@dataclass(frozen=True)
class Colour:
    """Colour tags as FFmpeg's AVCOL_* integers; unspecified primaries/transfer stay 2.

    ``matrix`` and ``range`` (1 limited, 2 full) are resolved, with their origin beside them.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int
    matrix_origin: Origin
    range_origin: Origin


@dataclass(frozen=True)
class Geometry:
    """Stored (unrotated) picture size in pixels, sample aspect ratio, 9-int display matrix or None."""

    width: int
    height: int
    sample_aspect_ratio: Fraction
    display_matrix: tuple[int, ...] | None


@dataclass(frozen=True)
class Hdr:
    """Static HDR10 metadata of the first frame, as FFmpeg stores it.

    ``mastering``: ten rationals as (numerator, denominator) pairs: x, y of red, green, blue and
    white point, then minimum and maximum luminance in cd/m2. ``content_light``: MaxCLL, MaxFALL.
    """

    mastering: tuple[tuple[int, int], ...] | None
    content_light: tuple[int, int] | None


@dataclass(frozen=True)
class Treatment:
    """What is done to decoded pictures before anything else sees them; settled when a file is indexed.

    ``alpha``: transparency goes along. ``deinterlace``: whole pictures are made of the frames marked as
    interlaced (``flagged``), or of all frames with that field first (``tff``, ``bff``). ``scale``: width,
    height and format of the first picture, which all others get; None while they have it. ``linear``: the
    file's own times cannot be sought, so it is read from its start. ``turn``: the display matrix that
    pictures are turned by, None to keep it beside them. ``light_peak``: the luminance in cd/m2 that the
    model sees as white; 0 when code values go through as they are.
    """

    alpha: bool = False
    deinterlace: Deinterlace = ""
    scale: tuple[int, int, str] | None = None
    linear: bool = False
    turn: tuple[int, ...] | None = None
    light_peak: int = 0


@dataclass(frozen=True)
class StreamSummary:
    """One stream of the source container: kind is video, audio, subtitle, data or attachment."""

    index: int
    kind: str
    codec: str | None
    attached_picture: bool


@dataclass(frozen=True)
class Probe:
    """What the header and the first packets of a file say, before any picture is decoded.

    ``stream`` is the index of the chosen video stream; ``average_rate`` may be 0 when unknown.
    ``hidden_alpha``: VP8 or VP9 with transparency beside the pictures. ``samples_lost``: frames that an
    MP4 lists beyond its end.
    """

    container: str
    streams: tuple[StreamSummary, ...]
    stream: int
    codec: str
    pix_fmt: str
    bit_depth: int
    time_base: Fraction
    average_rate: Fraction
    field_order: int
    colour: Colour
    geometry: Geometry
    warnings: tuple[str, ...]
    hidden_alpha: bool = False
    samples_lost: int = 0


@dataclass(frozen=True)
class VideoIndex:
    """What one linear pass over a file found. All per-frame values are in presentation order.

    ``pts`` are integers in ``time_base``; ``frame_hashes`` are 64-bit hashes of the decoded planes;
    ``key_pts``/``key_dts`` describe the key packets (dts falls back to pts);
    ``cuts`` are the ordinals at which a scene starts, beginning with 0; ``looks`` measures every frame.
    ``field_order`` is FFmpeg's AVFieldOrder of the stream (0 unknown, 1 progressive, 2/4 top first,
    3/5 bottom first).
    """

    source_digest: str
    container: str
    stream: int
    streams: tuple[StreamSummary, ...]
    codec: str
    pix_fmt: str
    bit_depth: int
    time_base: Fraction
    average_rate: Fraction
    pts: Integers
    durations: Integers
    frame_hashes: Hashes
    key_pts: Integers
    key_dts: Integers
    cuts: tuple[int, ...]
    looks: FrameLooks
    colour: Colour
    geometry: Geometry
    interlaced_frames: int
    decode_errors: int
    warnings: tuple[str, ...]
    hdr: Hdr | None = None
    field_order: int = 0
    treatment: Treatment = Treatment()

    def __post_init__(self) -> None:
        _pack(self, Integers, "pts", "durations", "key_pts", "key_dts")
        _pack(self, Hashes, "frame_hashes")

    @property
    def frames(self) -> int:
        """Number of decoded, presented frames."""
        return len(self.pts)


@dataclass(frozen=True)
class Segment:
    """One encoded chunk: closed GOPs in the final codec, decoded once to prove what it holds.

    ``frame_hashes`` has the 64-bit hash of the decoded planes per frame, presentation order.
    ``ranks`` has the presentation rank of each packet, decode order.
    """

    frames: int
    frame_hashes: Hashes
    ranks: Integers
    codec: str
    pix_fmt: str
    width: int
    height: int
    extradata_md5: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        _pack(self, Integers, "ranks")
        _pack(self, Hashes, "frame_hashes")


@dataclass(frozen=True)
class Assembly:
    """How an output file was put together.

    ``stream`` is the index of the main video stream in the output; ``copied`` pairs source and
    output indices of streams copied packet by packet; ``shift`` (seconds) was added to all times.
    """

    container: str
    dropped_streams: tuple[str, ...]
    warnings: tuple[str, ...]
    stream: int = 0
    copied: tuple[tuple[int, int], ...] = ()
    shift: Fraction = Fraction(0)


@dataclass(frozen=True)
class Measured:
    """What decoding a finished file yields.

    ``frames_md5``: md5 over all decoded planes (rows without padding) of all frames, in order.
    ``pts_sha256``: sha256 of the comma-joined decimal pts in the stream's own time base.
    ``last_duration``: what the container says of the last frame, in the time base; 0 when unknown.
    """

    frames: int
    frames_md5: str
    frame_hashes: Hashes
    pts: Integers
    pts_sha256: str
    time_base: Fraction
    decode_errors: int
    last_duration: int = 0

    def __post_init__(self) -> None:
        _pack(self, Integers, "pts")
        _pack(self, Hashes, "frame_hashes")


def _pack(value: Any, kind: type[Integers], *names: str) -> None:
    """Fields given as any integers become compact ones."""
    for name in names:
        object.__setattr__(value, name, kind.of(getattr(value, name)))
