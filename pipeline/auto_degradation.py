"""``degradation: auto``: which frames of a video are looked at, and what an estimate makes of ``enhance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pipeline.video.types import VideoIndex


Item = dict[str, Any]
Value = TypeVar("Value")

AUTO = "auto"
#: Frames that are looked at, fewer where they are large: all of them are in memory together.
FRAMES = 24
FEWEST_FRAMES = 6
MOST_PIXELS = 2**26

#: What a user should know before running such a job.
LIMITS_OF_AUTO = (
    "degradation auto tells white noise, Gaussian blur and opaque overlays of each video. It does not tell "
    "lost resolution, compression, motion blur, scratches, dust or lost colour; name those in the job. It "
    "may miss overlays, most in small or short films; give those as boxes."
)


@dataclass(frozen=True)
class Resolved:
    """The ``enhance`` list of one video: ``items``, and the place of each in the job's list."""

    items: tuple[Item, ...]
    origins: tuple[int, ...]


def is_auto(item: Mapping[str, Any]) -> bool:
    """Whether the degradation of an ``enhance`` item is to be estimated."""
    degradation: Mapping[str, Any] = item.get("restore", {}).get("degradation", {})
    return degradation.get("kind") == AUTO


def wants_estimate(enhance: Sequence[Item]) -> bool:
    """Whether any item is to be estimated."""
    return any(is_auto(item) for item in enhance)


def resolved(enhance: Sequence[Item], degradations: Sequence[Mapping[str, Any]]) -> Resolved:
    """Each auto item becomes one restoration per degradation, in their order, with its own solver and
    prompt; none when there is nothing to undo."""
    found: list[tuple[Item, int]] = []
    for origin, item in enumerate(enhance):
        if not is_auto(item):
            found.append((item, origin))
            continue
        for degradation in degradations:
            found.append(({"restore": {**item["restore"], "degradation": dict(degradation)}}, origin))
    return Resolved(tuple(item for item, _ in found), tuple(origin for _, origin in found))


def placed(by_item: Mapping[int, Value], own: Resolved) -> dict[int, Value]:
    """What belongs to items of the job's list, by the places of the same items in ``own``."""
    return {at: by_item[origin] for at, origin in enumerate(own.origins) if origin in by_item}


def described(estimate: Mapping[str, Any]) -> str:
    """A record of `pipeline.estimates.Estimate` as one sentence."""
    stages = []
    for degradation in estimate["degradations"]:
        values = ", ".join(f"{name} {value}" for name, value in degradation.items() if name != "kind")
        stages.append(f"{degradation['kind']} ({values})")
    told = "; ".join(estimate["warnings"])
    return f"estimated degradation: {', then '.join(stages) or 'none'}{'; ' if told else ''}{told}"


def looked_at(frames: int, width: int, height: int) -> list[int]:
    """Ordinals of the frames that are looked at: spread evenly over a video, ascending, each once."""
    count = min(FRAMES, max(FEWEST_FRAMES, MOST_PIXELS // (width * height)), frames)
    return [(2 * at + 1) * frames // (2 * count) for at in range(count)]


def estimate_video(path: str, index: VideoIndex) -> dict[str, Any]:
    """Facts as `pipeline.enhancement.estimate.estimated_facts`, of a local file and its index.

    Raises SourceError as `decode_rgb`, and for frames that are too small.
    """
    # Job files are read without a decoder.
    from pipeline.enhancement.estimate import estimated_facts
    from pipeline.video.rgb import decode_rgb

    shape = index.geometry
    return estimated_facts(decode_rgb(path, index, looked_at(index.frames, shape.width, shape.height)))
