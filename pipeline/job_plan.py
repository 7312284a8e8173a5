"""The plan of a whole job: what is done, what is left, what is refused. Pure but for reading the store."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.catalog import CatalogEntry, output_extensions, output_relative, resolve_catalog
from pipeline.commit import ChunkStore, is_published
from pipeline.encoder_check import check_encode
from pipeline.errors import SourceError
from pipeline.job_keys import JobKeys, index_key, package_versions
from pipeline.keys import digest
from pipeline.manifest import VideoRow, find_row
from pipeline.model_files import model_digest
from pipeline.pictures import load_pictures
from pipeline.plan import VideoPlan, plan_video
from pipeline.settings import JobSettings
from pipeline.source_cache import SourceCache
from pipeline.store import Store
from pipeline.video.container import choose_container
from pipeline.video.copy_name import COPY, copy_extension
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes
from pipeline.video.types import VideoIndex
from pipeline.work import Failure, UnitTask, VideoRef, VideoTask

_READERS = 16


@dataclass(frozen=True)
class VideoJob:
    """What is left to do for one video, and the manifest row it will get."""

    task: VideoTask
    row: VideoRow
    keys: JobKeys
    plan: VideoPlan
    references: tuple[UnitTask, ...]
    chunks: tuple[UnitTask, ...]


@dataclass(frozen=True)
class Job:
    """All videos of a job: ``videos`` are open, ``done_before`` published by an earlier run."""

    keys: JobKeys
    videos: tuple[VideoJob, ...]
    done_before: tuple[VideoRow, ...]
    refused: tuple[VideoRow, ...]
    chunks: int
    chunks_done: int
    records: tuple[dict[str, Any], ...]

    def record(self) -> dict[str, Any]:
        """Facts for ``plan.json``."""
        return {
            "videos": list(self.records),
            "chunks": self.chunks,
            "chunks_done": self.chunks_done,
            "rejected": [
                {"uri": row.video_uri, "code": row.code, "error": row.error} for row in self.refused
            ],
        }


def plan_videos(
    settings: JobSettings,
    keys: JobKeys,
    indexed: Sequence[tuple[CatalogEntry, dict[str, Any]]],
    chunks: ChunkStore,
    store: Store,
) -> Job:
    """Plan every indexed source and drop what is committed already.

    ``indexed`` pairs catalog entries with rows of `pipeline.tasks.index_source`.
    """
    planner = _Planner(settings, keys, chunks, store)
    with ThreadPoolExecutor(_READERS) as pool:
        planned = list(pool.map(lambda pair: planner.plan(*pair), indexed))
    jobs = [item for item in planned if isinstance(item, _Planned)]
    return Job(
        keys=keys,
        videos=tuple(item.job for item in jobs if item.done is None),
        done_before=tuple(item.done for item in jobs if item.done is not None),
        refused=tuple(item for item in planned if isinstance(item, VideoRow)),
        chunks=sum(len(item.job.task.chunk_keys) for item in jobs),
        chunks_done=sum(item.chunks_done for item in jobs),
        records=tuple(item.record for item in jobs),
    )


@dataclass(frozen=True)
class _Planned:
    job: VideoJob
    done: VideoRow | None
    chunks_done: int
    record: dict[str, Any]


@dataclass(frozen=True)
class _Planner:
    settings: JobSettings
    keys: JobKeys
    chunks: ChunkStore
    store: Store

    def plan(self, entry: CatalogEntry, row: dict[str, Any]) -> _Planned | VideoRow:
        if row["status"] == "failed":
            failure = Failure(**json.loads(row["failure"]))
            return quarantined_row(self.keys, VideoRef(entry.uri, "", ""), failure)
        video = VideoRef(entry.uri, row["source_digest"], row["index_key"])
        receipt = self.chunks.lookup(video.index_key)
        if receipt is None:
            return quarantined_row(self.keys, video, Failure("store", "its index vanished", True, "plan"))
        return self.plan_indexed(entry, video, index_from_bytes(self.chunks.read(receipt)))

    def plan_indexed(self, entry: CatalogEntry, video: VideoRef, index: VideoIndex) -> _Planned:
        plan = plan_video(index, self.settings.consistency, growth(self.settings))
        copied = self.settings.encode.codec == COPY
        references, units = ([], []) if copied else self._units(video, plan)
        container = (
            copy_extension(entry.uri, index) if copied else choose_container(index, self.settings.encode)
        )
        row = VideoRow(
            video_uri=entry.uri,
            video_key=self.keys.video(video.source_digest, container),
            status="done",
            source_digest=video.source_digest,
            **_job_facts(self.keys),
        )
        task = VideoTask(
            video, row.video_key, container, output_relative(entry, container), tuple(u.key for u in units)
        )
        done = find_row(self.store, entry.uri, row.video_key)
        if done is not None and not is_published(self.store, done):
            done = None
        left = [unit for unit in units if self.chunks.lookup(unit.key) is None]
        needed = {key for unit in left for key in (unit.anchors_key, *(key for _, key in unit.knot_keys))}
        missing = tuple(
            unit for unit in references if unit.key in needed and self.chunks.lookup(unit.key) is None
        )
        job = VideoJob(task, row, self.keys, plan, () if done else missing, () if done else tuple(left))
        chunks_done = len(units) if done else len(units) - len(left)
        record = {
            "video_uri": entry.uri,
            "output_rel": task.output_rel,
            "frames": plan.frames,
            "scenes": len(plan.scenes),
            "chunks": len(units),
            "width": index.geometry.width,
            "height": index.geometry.height,
        }
        return _Planned(job, done, chunks_done, record)

    def _units(self, video: VideoRef, plan: VideoPlan) -> tuple[list[UnitTask], list[UnitTask]]:
        """Reference units (anchors, then knots) and chunk units of a video, done or not."""
        sharing = self.settings.consistency.sharing if self.settings.enhance else "none"
        references: list[UnitTask] = []
        anchors_of: dict[int, str] = {}
        knots_of: dict[int, str] = {}
        for scene in plan.scenes if sharing != "none" else ():
            key = self.keys.anchors(video.source_digest, scene)
            anchors_of[scene.number] = key
            references.append(UnitTask("anchors", key, video, scene.number, 0, scene.anchors))
            for number, ordinal in enumerate(scene.knots if sharing != "anchors" else ()):
                if ordinal not in scene.anchors:
                    knots_of[ordinal] = self.keys.knot(video.source_digest, scene, ordinal, key)
                    references.append(
                        UnitTask(
                            level="knot",
                            key=knots_of[ordinal],
                            video=video,
                            scene=scene.number,
                            number=number,
                            ordinals=(ordinal,),
                            anchors_key=key,
                        )
                    )
        units = []
        for chunk in plan.chunks:
            anchors_key = anchors_of.get(chunk.scene, "")
            knot_keys = tuple((knot, knots_of[knot]) for knot in chunk.knots if knot in knots_of)
            units.append(
                UnitTask(
                    level="chunk",
                    key=self.keys.chunk(video.source_digest, chunk, anchors_key, knot_keys),
                    video=video,
                    scene=chunk.scene,
                    number=chunk.number,
                    ordinals=tuple(range(chunk.first, chunk.last)),
                    grid=chunk.knots,
                    gops=chunk.gops,
                    anchors_key=anchors_key,
                    knot_keys=knot_keys,
                )
            )
        references.sort(key=lambda unit: unit.level)
        return references, units


def growth(settings: JobSettings) -> int:
    """Linear growth of pictures over the whole ``enhance`` list."""
    scale = 1
    for item in settings.enhance:
        scale *= int(item.get("restore", {}).get("degradation", {}).get("scale", 1))
    return scale


def quarantined_row(keys: JobKeys, video: VideoRef, failure: Failure) -> VideoRow:
    """The manifest row of a refused video."""
    key = keys.video(video.source_digest, "") if video.source_digest else digest(["refused", video.uri])
    return VideoRow(
        video_uri=video.uri,
        video_key=key,
        status="quarantined",
        code=failure.code,
        error=failure.message,
        stage=failure.stage,
        attempts=failure.attempts,
        node=failure.node,
        source_digest=video.source_digest,
        **_job_facts(keys),
    )


def _job_facts(keys: JobKeys) -> dict[str, Any]:
    return {
        "spec_digest": keys.spec_digest(),
        "model_digest": keys.model_digest,
        "style_digest": digest(keys.style_keys) if keys.style_keys else "",
        "versions": package_versions(),
        "seed": keys.settings.seed,
    }


@dataclass(frozen=True)
class Rejected:
    """A source that would be quarantined, and why."""

    uri: str
    code: str
    error: str


@dataclass(frozen=True)
class JobPlan:
    """What a run would do. ``estimate`` holds frames and bytes still to be computed."""

    videos: int
    scenes: int
    chunks: int
    chunks_done: int
    frames: int
    rejected: tuple[Rejected, ...]
    estimate: dict[str, Any] = field(default_factory=dict)


def plan_job(settings: JobSettings) -> JobPlan:
    """Plan on this machine without Ray and without writing anything to the output.

    ``chunks_done`` is what the chunk store of the output already holds for a CPU run. Raises SpecError.
    """
    check_encode(settings)
    store = Store(settings.output, settings.storage)
    store.check(write=False)
    catalog = resolve_catalog(
        settings.source, settings.output, settings.storage, output_extensions(settings.encode.codec)
    )
    pictures = load_pictures(settings)
    digest_of_model = model_digest(settings.model) if settings.enhance else ""
    keys = JobKeys(settings, digest_of_model, "cpu", mask_digests=pictures.mask_digests)
    styles = tuple(keys.style(number, pictures.digests[number]) for number in sorted(pictures.styles))
    keys = JobKeys(settings, digest_of_model, "cpu", styles, pictures.mask_digests)
    chunks = ChunkStore(store)
    planner = _Planner(settings, keys, chunks, store)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda entry: _index_here(entry, settings, chunks), catalog))
    planned: list[_Planned] = []
    rejected: list[Rejected] = []
    for entry, outcome in zip(catalog, found, strict=True):
        if isinstance(outcome, SourceError):
            rejected.append(Rejected(entry.uri, outcome.code, str(outcome)))
        else:
            planned.append(planner.plan_indexed(entry, *outcome))
    return JobPlan(
        videos=len(catalog),
        scenes=sum(len(item.job.plan.scenes) for item in planned),
        chunks=sum(len(item.job.task.chunk_keys) for item in planned),
        chunks_done=sum(item.chunks_done for item in planned),
        frames=sum(item.job.plan.frames for item in planned),
        rejected=tuple(rejected),
        estimate=_estimate(planned, settings),
    )


def _index_here(
    entry: CatalogEntry, settings: JobSettings, chunks: ChunkStore
) -> tuple[VideoRef, VideoIndex] | SourceError:
    directory = os.path.join(tempfile.gettempdir(), f"reelweave-{os.getuid()}", "sources")
    try:
        path, source_digest = SourceCache(directory, settings.storage).local_path(entry.uri)
        video = VideoRef(entry.uri, source_digest, index_key(source_digest, settings.limits, settings.video))
        receipt = chunks.lookup(video.index_key)
        if receipt is not None:
            return video, index_from_bytes(chunks.read(receipt))
        return video, build_index(path, entry.uri, settings.limits, source_digest, settings.video)
    except SourceError as error:
        return error


def _estimate(planned: Sequence[_Planned], settings: JobSettings) -> dict[str, Any]:
    scale = growth(settings)
    left = [(item, sum(len(unit.ordinals) for unit in item.job.chunks)) for item in planned]
    pixels = sum(
        frames * item.record["width"] * item.record["height"] * scale * scale for item, frames in left
    )
    return {
        "frames_left": sum(frames for _, frames in left),
        "output_pixels_left": pixels,
        "references_left": sum(len(item.job.references) for item in planned),
    }
