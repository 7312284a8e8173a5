"""What a manifest row says of a published video, and whether a file still is what its row says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.video.facts import FileFacts
from pipeline.video.types import Measured
from pipeline.video.verify import Verification


def verified_facts(verified: Verification) -> dict[str, Any]:
    """Fields of the row that describe the pictures and the object."""
    measured = verified.measured
    return {
        "frames": measured.frames,
        "frames_md5": measured.frames_md5,
        "pts_sha256": measured.pts_sha256,
        "output_sha256": verified.object.sha256,
    }


def verified_metrics(verified: Verification) -> dict[str, Any]:
    """Metrics of the row: ``bytes``, ``encoder``, ``verification`` (one word or sentence per check), for
    identity jobs ``luma_psnr`` (dB; worst segment, worst edge against its neighbour, each segment), and
    ``published``: everything that `file_problems` compares again."""
    metrics: dict[str, Any] = {
        "bytes": verified.object.size,
        "encoder": verified.object.encoder,
        "verification": dict(verified.checks),
        "published": {
            "stream": verified.facts.main,
            "decode_errors": verified.measured.decode_errors,
            "last_frame": _seconds(verified.measured),
            "facts": verified.facts.record(),
        },
    }
    if verified.quality is not None:
        quality = verified.quality
        metrics["luma_psnr_db"] = {
            "worst_segment": quality.worst,
            "worst_edge": quality.worst_dip,
            "segments": list(quality.segments),
        }
    return metrics


def published_stream(metrics: Mapping[str, Any]) -> int | None:
    """Index of the main video stream, when the row knows it."""
    stream = metrics.get("published", {}).get("stream")
    return None if stream is None else int(stream)


def allowed_errors(metrics: Mapping[str, Any]) -> int:
    """Decode errors that the file had when it was published: not zero only for copies of damaged sources."""
    return int(metrics.get("published", {}).get("decode_errors", 0))


def file_problems(facts: FileFacts, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Every difference between a file's streams, names, chapters, tags, colour and geometry and the row."""
    planned = metrics.get("published", {}).get("facts")
    if planned is not None:
        yield from _differences("", planned, facts.record())


def _differences(place: str, planned: Any, found: Any) -> Iterator[str]:
    if isinstance(planned, dict) and isinstance(found, dict):
        for name in sorted({*planned, *found}):
            inner = f"{place}.{name}" if place else name
            yield from _differences(inner, planned.get(name), found.get(name))
    elif isinstance(planned, list) and isinstance(found, list) and len(planned) == len(found):
        for number, (a, b) in enumerate(zip(planned, found, strict=True)):
            yield from _differences(f"{place}.{number}", a, b)
    elif planned != found:
        yield f"{place} is {_short(found)}, the manifest says {_short(planned)}"


def _short(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) and len(value) > 4 else str(value)


def _seconds(measured: Measured) -> str:
    return str(measured.last_duration * measured.time_base)
