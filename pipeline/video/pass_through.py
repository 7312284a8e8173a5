"""`encode.codec: copy`: the output is the source's bytes, proven readable."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.video.facts import read_facts
from pipeline.video.integers import Integers
from pipeline.video.measured import measure
from pipeline.video.quality import lossless_problems
from pipeline.video.types import VideoIndex
from pipeline.video.verify import OK, Verification, object_facts


def verify_copy(path: str, index: VideoIndex) -> Verification:
    """Decode a copy and compare it with the index: frames, times and every picture.

    Damage that the source has is in the copy too; only damage that the index did not see is a problem.

    Raises:
        SourceError: ``unreadable``.
    """
    measured = measure(path, index.stream)
    facts = read_facts(path, index.stream)
    written = object_facts(path, index, None, None)
    problems = {
        "V2_times": [*_time_problems(measured.pts, index.pts)],
        "V3_pictures": [*lossless_problems(measured.frame_hashes, index.frame_hashes)],
        "V8_object": [] if written.sha256 == index.source_digest else ["its bytes are not the source's"],
    }
    same = "ok: the source's bytes"
    checks = dict.fromkeys(("V1_streams", "V4_sound", "V5_colour"), same)
    checks |= {name: "; ".join(found) or OK for name, found in problems.items()}
    checks |= {"V6_lossless": checks["V3_pictures"], "V7_quality": "not applicable: nothing was encoded"}
    return Verification(
        checks=dict(sorted(checks.items())),
        problems=tuple(text for found in problems.values() for text in found),
        warnings=(),
        measured=measured,
        facts=facts,
        object=written,
    )


def _time_problems(found: Integers, planned: Integers) -> Iterator[str]:
    if found != planned:
        yield f"{len(found)} frames or their times differ from the {len(planned)} that were indexed"
