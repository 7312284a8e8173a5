"""What a receipt says of how its result was made, and whether a unit has all of its receipts."""

from __future__ import annotations

import dataclasses
import platform
import time
from typing import Any

from pipeline.steps.context import TaskContext
from pipeline.steps.rows import Row
from pipeline.video.integers import Hashes, Integers
from pipeline.video.types import Segment
from pipeline.work import UnitTask


def made_before(context: TaskContext, task: UnitTask) -> bool:
    """Whether all that a unit makes is committed: by an attempt whose end nobody heard of (its node was lost
    with its row), or by a run that was given up for dead."""
    keys = [key for _, key in task.makes] or [task.key]
    return all(context.chunks.lookup(key) is not None for key in keys)


def making(row: Row, begun: float, results: int = 1) -> Row:
    """How a result was made, for its receipt: a driver that dies before it lists the result takes the row
    with it. Seconds are one result's share."""
    seconds = float(row["seconds"]) + time.monotonic() - begun
    return {
        "seconds": round(seconds / results, 3),
        "attempts": max(1, int(row["attempts"])),
        "node": platform.node(),
    }


def segment_facts(segment: Segment) -> dict[str, Any]:
    """``segment`` as JSON."""
    integers = {"frame_hashes": segment.frame_hashes.to_text(), "ranks": segment.ranks.to_text()}
    return {**dataclasses.asdict(segment), **integers}


def segment_of(facts: dict[str, Any]) -> Segment:
    """The reverse of `segment_facts`."""
    return Segment(
        **{
            **facts,
            "frame_hashes": Hashes.from_text(facts["frame_hashes"]),
            "ranks": Integers.from_text(facts["ranks"]),
        }
    )
