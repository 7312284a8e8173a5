"""The step on the accelerator."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from safetensors.numpy import load

from pipeline.at_work import stamped
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.mask_clips import by_ordinal
from pipeline.slices import ThriftyEnhancer
from pipeline.steps.context import TaskContext, read_committed
from pipeline.steps.guarded import guarded
from pipeline.steps.receipts import made_before, making
from pipeline.steps.rows import MASK, NO_FRAMES, Row
from pipeline.work import UnitTask


class EnhanceUnits:
    """The actor: one Enhancer for its whole life. Anchors and knots are committed here (they are small);
    a chunk's pictures go on to `encode_unit`."""

    def __init__(self, config: EnhancerConfig, style_keys: Mapping[int, str], context: TaskContext) -> None:
        from pipeline.enhancer import Enhancer, within_memory

        styles = {number: read_committed(context, key) for number, key in style_keys.items()}
        self._context = context
        self._enhancer = ThriftyEnhancer(Enhancer(config, styles), within_memory)

    def __call__(self, row: Row) -> Row:
        """Enhance one decoded unit."""

        def work() -> Row:
            if made_before(self._context, UnitTask.from_json(row["task"])):
                return {"frames": NO_FRAMES, "references": b""}
            return self._enhance(row)

        return stamped(lambda: guarded(row, self._context, "enhance", work))

    def _enhance(self, row: Row) -> Row:
        begun = time.monotonic()
        task = UnitTask.from_json(row["task"])
        if task.untouched:
            return {}
        enhancer = self._enhancer
        if task.enhance:
            origins, items = zip(*json.loads(task.enhance), strict=True)
            enhancer = enhancer.applying(items, origins)
        carried = load(row["references"])
        names = [name for name in carried if name.startswith(MASK)]
        masks = {int(name.removeprefix(MASK)): carried.pop(name) for name in names}
        if task.enhance:
            masks = {i: masks[at] for i, at in enumerate(origins) if at in masks}
        decoded, pictures_of = task.decoded, row["frames"]
        frames = FrameTask(
            task.video.source_digest,
            task.scene,
            task.ordinals,
            by_ordinal(masks, decoded),
            dict(zip(decoded, pictures_of, strict=True)) if task.halo else {},
            task.halo,
            task.scene_range,
        )
        before = decoded.index(task.ordinals[0])
        own = pictures_of[before : before + len(task.ordinals)]
        references = {name: blob.tobytes() for name, blob in carried.items()}
        anchors = references.pop("anchors", None)
        small = {name: value for name, value in row.items() if name not in ("frames", "references")}
        if task.level == "chunk":
            knots = {int(ordinal): blob for ordinal, blob in references.items()}
            pictures, slices = enhancer.chunk(frames, own, task.grid, anchors, knots)
            return {"frames": pictures, "references": b"", **slices}
        if task.level == "anchors":
            blobs, slices = {task.key: enhancer.anchors(frames, own)}, {}
        else:
            made, slices = enhancer.knots(frames, own, anchors)
            blobs = {key: made[knot] for knot, key in task.makes}
        for key, blob in blobs.items():
            facts = {"made": {**making(row, begun, len(blobs)), **slices}}
            self._context.chunks.commit_bytes(key, ".safetensors", blob, facts)
        return {**small, "frames": NO_FRAMES, "references": b"", **slices}
