"""A unit that somebody has committed meanwhile is not computed again, at whichever step that shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import EncodeSettings, Limits, StorageSettings, VideoPolicy
from pipeline.steps import enhance, units
from pipeline.steps.context import TaskContext
from pipeline.steps.enhance import EnhanceUnits
from pipeline.steps.units import decode_unit, encode_unit, transcode_unit
from pipeline.work import UnitTask, VideoRef

NOWHERE = VideoRef("/absent.mp4", "digest", "no index")
CHUNK = UnitTask("chunk", "c" * 64, NOWHERE, 0, 0, (0, 1))
KNOTS = UnitTask("knots", "g" * 64, NOWHERE, 0, 0, (0, 4), makes=((0, "a" * 64), (4, "b" * 64)))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskContext:
    def at_once(row: Any, context: Any, step: str, work: Callable[[], Any], **_: Any) -> dict[str, Any]:
        return {**row, **work()}

    for steps in (enhance, units):
        monkeypatch.setattr(steps, "guarded", at_once)
    out = str(tmp_path)
    return TaskContext(
        out, StorageSettings(), Limits(), VideoPolicy(), EncodeSettings(), "no ledger", "no code"
    )


def enhanced(row: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    actor = EnhanceUnits.__new__(EnhanceUnits)
    actor._context = context
    return actor(row)


@pytest.mark.parametrize("task", [CHUNK, KNOTS], ids=lambda task: task.level)
@pytest.mark.parametrize("step", [decode_unit, enhanced, encode_unit, transcode_unit])
def test_a_step_of_a_committed_unit_does_nothing_and_one_of_another_works(
    context: TaskContext, step: Callable[..., dict[str, Any]], task: UnitTask
) -> None:
    row = {"key": task.key, "task": task.to_json(), "frames": "pictures", "references": b""}
    with pytest.raises(Exception, match=r".+"):
        step(row, context)
    *rest, last = [key for _, key in task.makes] or [task.key]
    for key in rest:
        context.chunks.commit_bytes(key, ".bin", b"1", {})
        with pytest.raises(Exception, match=r".+"):
            step(row, context)
    context.chunks.commit_bytes(last, ".bin", b"1", {})
    assert len(step(row, context).get("frames", ())) == 0
