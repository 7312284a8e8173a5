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
from pipeline.scene_overrides import list_of
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
    where that is not the job's. Scenes that have a list of their own are made by that."""
    chunks_of: dict[int, list[ChunkPlan]] = {}
    for chunk in plan.chunks:
        chunks_of.setdefault(chunk.scene, []).append(chunk)
    found = []
    for scene in plan.scenes:
        units = _scene_units(keys.of_scene(scene.number), video, scene, chunks_of.get(scene.number, []))
        own = list_of(keys.own_scenes, scene.number) or own_list
        found.append(units if own is None else _under(units, own))
    return Units(
        tuple(unit for units in found for unit in units.anchors),
        tuple(unit for units in found for unit in units.knots),
        tuple(unit for units in found for unit in units.chunks),
    )


def _scene_units(keys: JobKeys, video: VideoRef, scene: ScenePlan, chunks: Sequence[ChunkPlan]) -> Units:
    sharing = facts_of(keys.settings.consistency) if keys.enhance else POLICIES["none"]
    anchored = needs_anchors(keys.settings.consistency, keys.enhance)
    anchors = (_anchor_unit(keys, video, scene),) if anchored else ()
    anchors_key = anchors[0].key if anchors else ""
    knot_keys: dict[int, str] = {}
    if sharing.knots:
        knot_keys = {
            knot: keys.knot(video.source_digest, scene, knot, anchors_key)
            for knot in scene.knots
            if knot not in scene.anchors
        }
    return Units(
        anchors,
        tuple(_knot_units(video, chunks, anchors_key, knot_keys)),
        tuple(_chunk_unit(keys, video, chunk, scene, anchors_key, knot_keys) for chunk in chunks),
    )


def _under(units: Units, own_list: Resolved) -> Units:
    """``units`` of a video or scene that has an ``enhance`` list of its own."""
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


def _anchor_unit(keys: JobKeys, video: VideoRef, scene: ScenePlan) -> UnitTask:
    return UnitTask(
        level="anchors",
        key=keys.anchors(video.source_digest, scene),
        video=video,
        scene=scene.number,
        number=0,
        ordinals=scene.anchors,
    )


def _knot_units(
    video: VideoRef,
    chunks: Sequence[ChunkPlan],
    anchors_key: str,
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
                anchors_key=anchors_key,
            )
            units.append(knot_group(unit, makes))
    return units


def _chunk_unit(
    keys: JobKeys,
    video: VideoRef,
    chunk: ChunkPlan,
    scene: ScenePlan,
    anchors_key: str,
    knot_keys: Mapping[int, str],
) -> UnitTask:
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
