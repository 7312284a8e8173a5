"""A device that is too small for a chunk: the job ends with the same bits, and the manifest tells of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import enhancer
from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings, JobSettings
from pipeline.steps import units
from pipeline.steps.context import TaskContext
from pipeline.units import manifest_rows
from pipeline.work import UnitTask
from tests.pipeline.direct import run_directly
from tests.pipeline.graph.jobs import identity_job
from tests.pipeline.video.media import Clip, make_clip

ROOM = 5


class SmallDevice(Enhancer):
    """Holds five frames of a chunk at a time, as a GPU says it does."""

    def chunk(self, task: Any, frames: Any, *others: Any) -> Any:
        if len(task.ordinals) > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().chunk(task, frames, *others)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The rows that reach the driver."""
    rows: list[dict[str, Any]] = []
    encode = units.encode_unit

    def kept(row: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        rows.append(encode(row, context))
        return rows[-1]

    monkeypatch.setattr(units, "encode_unit", kept)
    return rows


def restoring(source: str, output: Path) -> JobSettings:
    degradation = {"kind": "denoise", "noise": 0.05}
    item = {"restore": {"degradation": degradation, "solver": {"name": "dpir", "steps": 1}}}
    return replace(
        identity_job(source, output),
        enhance=(item,),
        consistency=ConsistencySettings(anchors=1, knot_every=4, knots_per_chunk=3),
    )


def test_a_chunk_that_a_gpu_refuses_is_computed_in_slices_and_its_row_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[dict[str, Any]]
) -> None:
    source = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 13 * 512, 512), width=32, height=24))
    (roomy,) = run_directly(restoring(source, tmp_path / "roomy"), monkeypatch).values()
    monkeypatch.setattr(enhancer, "Enhancer", SmallDevice)
    (pressed,) = run_directly(restoring(source, tmp_path / "pressed"), monkeypatch).values()
    assert pressed.frames_md5 == roomy.frames_md5
    told = []
    for row in encoded:
        (chunk,) = manifest_rows(UnitTask.from_json(row["task"]), {**row, "node": ""})
        told.append({name: chunk.metrics.get(name) for name in ("slices", "memory_full")})
    assert told == [{"slices": None, "memory_full": None}, {"slices": 3, "memory_full": 1}]
