"""The units of work of one planned video, and the rows they leave in the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from pipeline.auto_degradation import Resolved
from pipeline.commit import Receipt
from pipeline.job_keys import JobKeys
from pipeline.keys import canonical_json, digest
from pipeline.manifest import ChunkRow
from pipeline.plan import ChunkPlan, ScenePlan, VideoPlan
from pipeline.sharing_policies import POLICIES, facts_of, needs_anchors
from pipeline.windows import halo_of
from pipeline.work import UnitTask, VideoRef


@dataclasses.dataclass(frozen=True)
class Units:
    """What a video is made of, done or not: anchors per scene, the knots of each chunk's span, chunks."""

    anchors: tuple[UnitTask, ...]
    knots: tuple[UnitTask, ...]
    chunks: tuple[UnitTask, ...]


def units_of(keys: JobKeys, video: VideoRef, plan: VideoPlan, own_list: Resolved | None = None) -> Units:
    """All units of a video, in presentation order. ``own_list``: its ``enhance`` list, the one of ``keys``,
    where that is not the job's."""
    sharing = facts_of(keys.settings.consistency) if keys.enhance else POLICIES["none"]
    anchored = needs_anchors(keys.settings.consistency, keys.enhance)
    anchors = _anchor_units(keys, video, plan.scenes if anchored else ())
    anchor_keys = {unit.scene: unit.key for unit in anchors}
    knot_keys: dict[int, str] = {}
    for scene in plan.scenes if sharing.knots else ():
        key = anchor_keys[scene.number]
        knot_keys |= {
            knot: keys.knot(video.source_digest, scene, knot, key)
            for knot in scene.knots
            if knot not in scene.anchors
        }
    units = Units(
        tuple(anchors),
        tuple(_knot_units(video, plan.chunks, anchor_keys, knot_keys)),
        tuple(
            _chunk_unit(keys, video, chunk, plan.scenes[chunk.scene], anchor_keys, knot_keys)
            for chunk in plan.chunks
        ),
    )
    return units if own_list is None else _under(units, own_list)


def _under(units: Units, own_list: Resolved) -> Units:
    """``units`` of a video that has an ``enhance`` list of its own."""
    pairs = [list(pair) for pair in zip(own_list.origins, own_list.items, strict=True)]
    told = canonical_json(pairs).decode()
    levels = (units.anchors, units.knots, units.chunks)
    return Units(*(tuple(dataclasses.replace(unit, enhance=told) for unit in level) for level in levels))


def missing_references(
    units: Units, left: Sequence[UnitTask], is_done: Callable[[str], bool]
) -> tuple[UnitTask, ...]:
    """The references that the chunks ``left`` need and that are not done: anchors first, then knots."""
    needed = {key for unit in left for key in (unit.anchors_key, *(key for _, key in unit.knot_keys))}
    anchors = [unit for unit in units.anchors if unit.key in needed and not is_done(unit.key)]
    knots = []
    for unit in units.knots:
        makes = tuple((knot, key) for knot, key in unit.makes if key in needed and not is_done(key))
        if makes:
            knots.append(unit if makes == unit.makes else knot_group(unit, makes))
    return (*anchors, *knots)


def knot_group(unit: UnitTask, makes: tuple[tuple[int, str], ...]) -> UnitTask:
    """``unit`` for these knots alone. Its own key names the attempt; results lie under each knot's key."""
    key = digest([key for _, key in makes])
    return dataclasses.replace(unit, key=key, ordinals=tuple(knot for knot, _ in makes), makes=makes)


def manifest_rows(task: UnitTask, row: Mapping[str, Any]) -> list[ChunkRow]:
    """What a finished unit leaves in the chunk manifest: a row for each thing it committed."""
    common: dict[str, Any] = {
        "video_uri": task.video.uri,
        "scene": task.scene,
        "chunk": task.number,
        "attempts": int(row["attempts"]),
        "node": str(row["node"]),
        "actor": str(row.get("actor", "")),
        "begun": round(float(row.get("begun", 0.0)), 3),
        "ended": round(float(row.get("ended", 0.0)), 3),
    }
    seconds = round(float(row["seconds"]), 3)
    sliced = sliced_facts(row)
    if task.level == "knots":
        share = round(seconds / len(task.makes), 3)
        return [
            ChunkRow(
                key,
                level="knot",
                first=knot,
                last=knot + 1,
                frames=1,
                seconds=share,
                metrics=dict(sliced),
                **common,
            )
            for knot, key in task.makes
        ]
    metrics: dict[str, Any] = {"anchors": list(task.ordinals)}
    if task.level == "chunk":
        metrics = {"knots": list(task.grid), "gops": list(task.gops), **sliced}
    first, last = task.ordinals[0], task.ordinals[-1] + 1
    return [
        ChunkRow(
            task.key,
            level=task.level,
            first=first,
            last=last,
            frames=len(task.ordinals),
            seconds=seconds,
            metrics=metrics,
            **common,
        )
    ]


def sliced_facts(row: Mapping[str, Any]) -> dict[str, int]:
    """What a unit's row says of memory that was full; nothing if all fitted at once."""
    return {name: int(row[name]) for name in ("slices", "memory_full") if name in row}


def unlisted_rows(
    units: Units, listed: Container[tuple[str, str]], receipt_of: Callable[[str], Receipt | None]
) -> list[ChunkRow]:
    """Manifest rows of what is committed and not ``listed`` (pairs of URI and key): a run was killed before
    it wrote them, or a video of equal content was there first."""
    knots = [(unit, make) for unit in units.knots for make in unit.makes]
    results: list[tuple[str, UnitTask, tuple[int, str] | None]] = [
        *((unit.key, unit, None) for unit in units.anchors),
        *((make[1], unit, make) for unit, make in knots),
        *((unit.key, unit, None) for unit in units.chunks),
    ]
    rows = []
    for key, unit, make in results:
        receipt = None if (unit.video.uri, key) in listed else receipt_of(key)
        if receipt is not None:
            one = unit if make is None else knot_group(unit, (make,))
            unknown = {"seconds": 0.0, "attempts": 1, "node": ""}
            rows += manifest_rows(one, unknown | receipt.facts.get("made", {}))
    return rows


def _anchor_units(keys: JobKeys, video: VideoRef, scenes: Sequence[ScenePlan]) -> list[UnitTask]:
    return [
        UnitTask(
            level="anchors",
            key=keys.anchors(video.source_digest, scene),
            video=video,
            scene=scene.number,
            number=0,
            ordinals=scene.anchors,
        )
        for scene in scenes
    ]


def _knot_units(
    video: VideoRef,
    chunks: Sequence[ChunkPlan],
    anchor_keys: Mapping[int, str],
    knot_keys: Mapping[int, str],
) -> list[UnitTask]:
    """One per chunk with knots in its span that are no anchors; together they hold every knot once."""
    units = []
    for chunk in chunks:
        makes = tuple((k, knot_keys[k]) for k in chunk.knots if k < chunk.last and k in knot_keys)
        if makes:
            unit = UnitTask(
                level="knots",
                key="",
                video=video,
                scene=chunk.scene,
                number=chunk.number,
                ordinals=(),
                anchors_key=anchor_keys[chunk.scene],
            )
            units.append(knot_group(unit, makes))
    return units


def _chunk_unit(
    keys: JobKeys,
    video: VideoRef,
    chunk: ChunkPlan,
    scene: ScenePlan,
    anchor_keys: Mapping[int, str],
    knot_keys: Mapping[int, str],
) -> UnitTask:
    anchors_key = anchor_keys.get(chunk.scene, "")
    mine = tuple((knot, knot_keys[knot]) for knot in chunk.knots if knot in knot_keys)
    return UnitTask(
        level="chunk",
        key=keys.chunk(video.source_digest, chunk, anchors_key, mine),
        video=video,
        scene=chunk.scene,
        number=chunk.number,
        ordinals=tuple(range(chunk.first, chunk.last)),
        grid=chunk.knots,
        gops=chunk.gops,
        anchors_key=anchors_key,
        knot_keys=mine,
        halo=halo_of(keys.enhance),
        scene_range=(scene.first, scene.last),
    )
