"""What is done with sources that are not plain: the ``video`` part of a job file."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from pydantic import field_validator

from jobs.spec_base import Section, problem
from pipeline.settings import Alpha, Hdr, Interlaced, Rotation, SizeChange, Timestamps, VideoPolicy


class VideoSpec(Section):
    """What is done with sources that are not plain; see `pipeline.settings.VideoPolicy`.

    ``auto``: fields stay woven when a job only encodes again, and become whole pictures before a model
    sees them; transparency is kept when the codec can store it.
    """

    timestamps: Timestamps = VideoPolicy.timestamps
    assume_fps: str | None = None
    partial: bool = VideoPolicy.partial
    size_change: SizeChange = VideoPolicy.size_change
    interlaced: Literal["auto", "keep", "deinterlace", "reject"] = "auto"
    rotation: Rotation = VideoPolicy.rotation
    alpha: Literal["auto", "keep", "drop", "reject"] = "auto"
    hdr: Hdr = VideoPolicy.hdr

    @field_validator("assume_fps", mode="before", json_schema_input_type=str | float | None)
    @classmethod
    def _is_a_rate(cls, rate: Any) -> Any:
        if rate is None or isinstance(rate, bool) or not isinstance(rate, (str, int, float)):
            return rate
        try:
            found = Fraction(str(rate))
        except (ValueError, ZeroDivisionError):
            raise problem(f"expected frames per second such as 25 or 30000/1001, found {rate!r}") from None
        if not Fraction(1, 3600) <= found <= 1000 or found.denominator > 100_000:
            raise problem(f"expected 1/3600 to 1000 frames per second, found {rate!r}")
        return str(found)

    def to_policy(self, *, enhanced: bool, alpha_fits: bool) -> VideoPolicy:
        """The policy with ``auto`` settled for this job."""
        kept: Alpha = "keep" if alpha_fits else "drop"
        whole: Interlaced = "deinterlace" if enhanced else "keep"
        return VideoPolicy(
            timestamps=self.timestamps,
            assume_fps=self.assume_fps,
            partial=self.partial,
            size_change=self.size_change,
            interlaced=whole if self.interlaced == "auto" else self.interlaced,
            rotation=self.rotation,
            alpha=kept if self.alpha == "auto" else self.alpha,
            hdr=self.hdr,
        )
