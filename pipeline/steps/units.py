"""Steps of a unit of frames on either side of the accelerator: decode and encode."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import numpy as np
from safetensors.numpy import save

from pipeline.at_work import stamped
from pipeline.mask_clips import decode_masks
from pipeline.steps.context import TaskContext, committed_index, read_committed
from pipeline.steps.guarded import guarded
from pipeline.steps.receipts import made_before, making, segment_facts
from pipeline.steps.rows import MASK, NO_FRAMES, Row
from pipeline.units import sliced_facts
from pipeline.video.encode import encode_rgb_segment, encode_source_segment
from pipeline.video.nvenc import check_encoder
from pipeline.video.rgb import decode_rgb
from pipeline.video.treat import treated_frames
from pipeline.video.types import Segment
from pipeline.work import UnitTask


def decode_unit(row: Row, context: TaskContext) -> Row:
    """Decode a unit's frames and fetch its references: adds ``frames`` and ``references``."""
    task = UnitTask.from_json(row["task"])

    def work() -> Row:
        if task.untouched or made_before(context, task):
            return {}
        index = committed_index(context, task.video.index_key)
        path = context.sources.open_verified(task.video.uri, task.video.source_digest)
        return {
            "frames": decode_rgb(path, index, task.decoded),
            "references": save({**_fetch_references(context, task), **_masks(context, task)}),
        }

    return guarded({**row, "frames": NO_FRAMES, "references": b""}, context, "decode", work)


def encode_unit(row: Row, context: TaskContext) -> Row:
    """Encode a chunk's pictures as closed GOPs and commit the segment; drops the arrays."""
    task = UnitTask.from_json(row["task"])

    def work() -> Row:
        if made_before(context, task):
            return {}
        begun = time.monotonic()
        check_encoder(context.encode.codec)
        if task.untouched:
            _transcode(task, context, row, begun)
            return {}
        index = committed_index(context, task.video.index_key)
        source = context.sources.open_verified(task.video.uri, task.video.source_digest)
        # Decoding once more is cheap beside the network, and lets rows travel without the source's planes.
        before = treated_frames(source, index, task.ordinals[0], task.ordinals[-1] + 1)
        with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
            path = os.path.join(folder, "segment.mkv")
            segment = encode_rgb_segment(path, row["frames"], task.gops, index, context.encode, before)
            context.chunks.commit(task.key, ".mkv", path, _facts(row, begun, segment))
        return {}

    return _small(guarded(row, context, "encode", work, finishing=True))


def transcode_unit(row: Row, context: TaskContext) -> Row:
    """Identity: decode and encode a chunk without touching its planes."""
    task = UnitTask.from_json(row["task"])

    def work() -> Row:
        if made_before(context, task):
            return {}
        begun = time.monotonic()
        check_encoder(context.encode.codec)
        _transcode(task, context, row, begun)
        return {}

    return stamped(lambda: _small(guarded(row, context, "encode", work)))


def _transcode(task: UnitTask, context: TaskContext, row: Row, begun: float) -> None:
    index = committed_index(context, task.video.index_key)
    source = context.sources.open_verified(task.video.uri, task.video.source_digest)
    first, last = task.ordinals[0], task.ordinals[-1] + 1
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        path = os.path.join(folder, "segment.mkv")
        frames = treated_frames(source, index, first, last)
        segment = encode_source_segment(path, frames, task.gops, index, context.encode)
        context.chunks.commit(task.key, ".mkv", path, _facts(row, begun, segment))


def _fetch_references(context: TaskContext, task: UnitTask) -> dict[str, np.ndarray[Any, Any]]:
    keys = {str(ordinal): key for ordinal, key in task.knot_keys}
    if task.anchors_key:
        keys["anchors"] = task.anchors_key
    return {name: np.frombuffer(read_committed(context, key), dtype=np.uint8) for name, key in keys.items()}


def _masks(context: TaskContext, task: UnitTask) -> dict[str, np.ndarray[Any, Any]]:
    """Masks of the unit's frames out of mask videos."""
    found = {}
    for number, clip in context.mask_clips:
        path = context.sources.open_verified(clip.uri, clip.source_digest)
        masks = decode_masks(path, committed_index(context, clip.index_key), task.decoded)
        found[f"{MASK}{number}"] = masks
    return found


def _facts(row: Row, begun: float, segment: Segment) -> dict[str, Any]:
    return {"segment": segment_facts(segment), "made": {**making(row, begun), **sliced_facts(row)}}


def _small(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("frames", "references")}
