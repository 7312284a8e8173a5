"""The plan of a whole job: what is done, what is left, what is refused. Pure but for reading the store."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.auto_degradation import placed, wants_estimate
from pipeline.catalog import CatalogEntry, output_extensions, output_relative, resolve_catalog
from pipeline.commit import ChunkStore
from pipeline.disclosure import disclosure_note
from pipeline.encoder_check import check_encode
from pipeline.enhance_fit import require_fit
from pipeline.errors import ResultLostError, SourceError
from pipeline.estimates import Estimate, committed_estimate, estimate_here
from pipeline.failures import LOST, failure_of
from pipeline.index_process import index_in_process
from pipeline.job_keys import JobKeys, index_key, package_versions
from pipeline.job_warnings import estimate_warnings, job_warnings
from pipeline.keys import digest
from pipeline.manifest import ChunkRow, VideoRow, find_row, read_chunk_rows, read_video_rows
from pipeline.mask_clips import MaskSize
from pipeline.model_files import weights_digest
from pipeline.model_fit import require_model_fit
from pipeline.pictures import Pictures, load_pictures
from pipeline.plan import VideoPlan, plan_video
from pipeline.proof import is_published
from pipeline.scene_overrides import absent_scenes, require_named_videos
from pipeline.settings import JobSettings
from pipeline.signer import with_signer
from pipeline.source_cache import node_cache
from pipeline.store import Store
from pipeline.units import Units, missing_references, units_of, unlisted_rows
from pipeline.video.container import choose_container
from pipeline.video.copy_name import COPY, copy_extension
from pipeline.video.geometry import as_upright_size
from pipeline.video.index_io import index_from_bytes
from pipeline.video.types import VideoIndex
from pipeline.work import Failure, UnitTask, VideoRef, VideoTask

_READERS = 16
PLAN_STAGE = "plan"
#: Classes of devices: bits are promised for each of them alone.
CPU, CUDA = "cpu", "cuda"


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
    """All videos of a job: ``videos`` are open, ``done_before`` published by an earlier run. ``unlisted`` are
    the manifest rows that an earlier run owes."""

    keys: JobKeys
    videos: tuple[VideoJob, ...]
    done_before: tuple[VideoRow, ...]
    refused: tuple[VideoRow, ...]
    unlisted: tuple[ChunkRow, ...]
    chunks: int
    chunks_done: int
    records: tuple[dict[str, Any], ...]

    @classmethod
    def untouched(cls, keys: JobKeys) -> Job:
        """A job of no videos so far."""
        return cls(keys, (), (), (), (), 0, 0, ())

    @property
    def estimates(self) -> dict[str, dict[str, Any]]:
        """By video what its estimated degradation is, for jobs that ask for it."""
        return {record["video_uri"]: record["estimate"] for record in self.records if "estimate" in record}

    def with_settled(self, rows: Iterable[VideoRow]) -> Job:
        """The job and videos that were found finished without planning them."""
        settled = tuple(rows)
        chunks = sum(int(row.metrics.get("chunks", 0)) for row in settled)
        records = tuple(
            {"video_uri": r.video_uri, "output_rel": r.output_rel, "frames": r.frames, "settled": True}
            for r in settled
        )
        return replace(
            self,
            done_before=(*self.done_before, *settled),
            chunks=self.chunks + chunks,
            chunks_done=self.chunks_done + chunks,
            records=(*self.records, *records),
        )

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
    mask_sizes: Mapping[int, MaskSize],
) -> Job:
    """Plan every indexed source and drop what is committed already.

    ``indexed`` pairs catalog entries with rows of `pipeline.tasks.index_source`. A video whose frames the
    ``enhance`` list does not fit is refused; ``mask_sizes`` as in `pipeline.pictures.Pictures`.
    """
    listed = frozenset((row.video_uri, row.key) for row in read_chunk_rows(store))
    planner = _Planner(settings, keys, chunks, store, mask_sizes, listed)
    with ThreadPoolExecutor(_READERS) as pool:
        planned = list(pool.map(lambda pair: planner.plan(*pair), indexed))
    jobs = [item for item in planned if isinstance(item, _Planned)]
    return Job(
        keys=keys,
        videos=tuple(item.job for item in jobs if item.done is None),
        done_before=tuple(item.done for item in jobs if item.done is not None),
        refused=tuple(item for item in planned if isinstance(item, VideoRow)),
        unlisted=tuple(row for item in jobs for row in item.unlisted),
        chunks=sum(len(item.job.task.chunk_keys) for item in jobs),
        chunks_done=sum(item.chunks_done for item in jobs),
        records=tuple(item.record for item in jobs),
    )


@dataclass(frozen=True)
class _Planned:
    job: VideoJob
    done: VideoRow | None
    unlisted: tuple[ChunkRow, ...]
    chunks_done: int
    record: dict[str, Any]


@dataclass(frozen=True)
class _Planner:
    settings: JobSettings
    keys: JobKeys
    chunks: ChunkStore
    store: Store
    mask_sizes: Mapping[int, MaskSize]
    listed: frozenset[tuple[str, str]] = frozenset()
    writes: bool = True

    def plan(self, entry: CatalogEntry, row: dict[str, Any]) -> _Planned | VideoRow:
        if row["status"] == "failed":
            return quarantined_row(self.keys, VideoRef(entry.uri, "", ""), failure_of(row))
        video = VideoRef(entry.uri, row["source_digest"], row["index_key"], row["source_version"])
        receipt = self.chunks.lookup(video.index_key)
        if receipt is None:
            return quarantined_row(self.keys, video, _refusal(LOST, "its index vanished"))
        estimate = None
        try:
            if wants_estimate(self.settings.enhance):
                estimate = committed_estimate(self.settings, video, self.chunks)
                if estimate is None:
                    return quarantined_row(self.keys, video, _refusal(LOST, "its estimate vanished"))
            return self.plan_indexed(entry, video, index_from_bytes(self.chunks.read(receipt)), estimate)
        except SourceError as error:
            return quarantined_row(self.keys, video, _refusal(error.code, str(error)))
        except ResultLostError as error:
            return quarantined_row(self.keys, video, _refusal(LOST, str(error)))

    def plan_indexed(
        self, entry: CatalogEntry, video: VideoRef, index: VideoIndex, estimate: Estimate | None
    ) -> _Planned:
        """Raises SourceError when the frames do not fit the ``enhance`` list. ``estimate``: of the video's
        degradation, for jobs that ask for it."""
        shown = index.geometry
        size = as_upright_size(shown.width, shown.height, shown.display_matrix)
        keys, mask_sizes, own_list = self.keys, dict(self.mask_sizes), None
        if estimate is not None:
            own_list = estimate.enhance
            keys = replace(keys, resolved=own_list.items)
            mask_sizes = placed(self.mask_sizes, own_list)
        degradations = () if estimate is None else estimate.facts["degradations"]
        keys = keys.of_video(entry.uri, degradations)
        for own in keys.own_scenes:
            sizes = placed(self.mask_sizes, own.enhance)
            require_fit(own.enhance.items, *size, sizes, index.frames)
        require_fit(keys.enhance, *size, mask_sizes, index.frames)
        plan = plan_video(index, self.settings.consistency, growth(self.settings))
        copied = self.settings.encode.codec == COPY
        units = Units((), (), ()) if copied else units_of(keys, video, plan, own_list)
        container = (
            copy_extension(entry.uri, index) if copied else choose_container(index, self.settings.encode)
        )
        warnings = (
            *estimate_warnings(self.settings, estimate),
            *absent_scenes(keys.own_scenes, len(plan.scenes)),
        )
        metrics: dict[str, Any] = {"chunks": len(units.chunks)}
        if estimate is not None:
            metrics["estimate"] = estimate.record()
        row = replace(
            planned_row(keys, video, container),
            warnings=warnings,
            metrics=metrics,
        )
        chunk_keys = tuple(unit.key for unit in units.chunks)
        task = VideoTask(
            video,
            row.video_key,
            container,
            output_relative(entry, container),
            chunk_keys,
            untouched=own_list is not None and not own_list.items and not keys.own_scenes,
        )
        done = find_row(self.store, entry.uri, row.video_key)
        if done is not None and not is_published(self.store, done, note=self.writes):
            done = None
        receipt_of = functools.cache(self.chunks.lookup)
        left = [unit for unit in units.chunks if done is None and receipt_of(unit.key) is None]
        missing = missing_references(units, left, lambda key: receipt_of(key) is not None)
        unlisted = unlisted_rows(units, self.listed, receipt_of)
        job = VideoJob(task, row, keys, plan, missing, tuple(left))
        chunks_done = len(units.chunks) - len(left)
        record = {
            "video_uri": entry.uri,
            "output_rel": task.output_rel,
            "frames": plan.frames,
            "scenes": len(plan.scenes),
            "chunks": len(units.chunks),
            "width": index.geometry.width,
            "height": index.geometry.height,
            "knots_placed": self.settings.consistency.knots,
            "scene_list": [scene.record() for scene in plan.scenes],
        }
        if estimate is not None:
            record["estimate"] = estimate.record()
        return _Planned(job, done, tuple(unlisted), chunks_done, record)


def _refusal(code: str, message: str) -> Failure:
    return Failure(code, message, False, PLAN_STAGE, 1, platform.node())


def growth(settings: JobSettings) -> int:
    """Linear growth of pictures over the whole ``enhance`` list."""
    scale = 1
    for item in settings.enhance:
        scale *= int(item.get("restore", {}).get("degradation", {}).get("scale", 1))
    return scale


def planned_row(keys: JobKeys, video: VideoRef, container: str) -> VideoRow:
    """The manifest row that a video will get when it is published, as far as planning knows it."""
    return VideoRow(
        video_uri=video.uri,
        video_key=keys.video(video.source_digest, container),
        status="done",
        source_digest=video.source_digest,
        source_version=video.source_version,
        **_job_facts(keys),
    )


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
        source_version=video.source_version,
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
    """What a run would do. ``consistency`` counts knots (anchors among them) and says how they are placed;
    ``estimate`` holds frames and bytes still to be computed; ``auto`` by video what its estimated degradation
    is, ``scene_ranges`` by video first and last frame (exclusive) of its scenes, in the order of their
    numbers. ``provenance`` says what outputs will say of themselves."""

    videos: int
    scenes: int
    chunks: int
    chunks_done: int
    frames: int
    rejected: tuple[Rejected, ...]
    consistency: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    auto: dict[str, dict[str, Any]] = field(default_factory=dict)
    scene_ranges: dict[str, list[list[int]]] = field(default_factory=dict)
    provenance: str = ""


def plan_job(settings: JobSettings) -> JobPlan:
    """Plan on this machine without Ray and without writing anything to the output.

    ``chunks_done`` is what the chunk store of the output already holds; where nothing tells of the device
    class of earlier runs, for a CPU run. Raises SpecError.
    """
    check_encode(settings)
    settings = with_signer(settings)
    store = Store(settings.output, settings.storage)
    store.check(write=False)
    catalog = resolve_catalog(
        settings.source, settings.output, settings.storage, output_extensions(settings.encode.codec)
    )
    require_named_videos(settings.scenes, [entry.uri for entry in catalog])
    pictures = load_pictures(settings)
    digest_of_model = weights_digest(settings)
    require_model_fit(settings)
    keys = _keys_of_earlier_runs(settings, digest_of_model, pictures, store)
    chunks = ChunkStore(store)
    planner = _Planner(settings, keys, chunks, store, pictures.mask_sizes, writes=False)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda entry: index_here(entry, settings, chunks), catalog))
    planned: list[_Planned] = []
    rejected: list[Rejected] = []
    for entry, outcome in zip(catalog, found, strict=True):
        try:
            if isinstance(outcome, SourceError):
                raise outcome
            planned.append(planner.plan_indexed(entry, *outcome))
        except SourceError as error:
            rejected.append(Rejected(entry.uri, error.code, str(error)))
    return JobPlan(
        videos=len(catalog),
        scenes=sum(len(item.job.plan.scenes) for item in planned),
        chunks=sum(len(item.job.task.chunk_keys) for item in planned),
        chunks_done=sum(item.chunks_done for item in planned),
        frames=sum(item.job.plan.frames for item in planned),
        rejected=tuple(rejected),
        consistency=_consistency(planned, settings),
        estimate=_estimate(planned, settings),
        warnings=(*job_warnings(settings), *pictures.notes, *_absent_scenes(planned)),
        provenance=disclosure_note(settings),
        scene_ranges={
            item.record["video_uri"]: [[s.first, s.last] for s in item.job.plan.scenes] for item in planned
        },
        auto={
            item.record["video_uri"]: item.record["estimate"] for item in planned if "estimate" in item.record
        },
    )


def keys_by_device(settings: JobSettings, digest_of_model: str, pictures: Pictures) -> Mapping[str, JobKeys]:
    """The job's keys for runs on each class of device."""
    found = {}
    for device in (CPU, CUDA):
        keys = JobKeys(settings, digest_of_model, device, mask_digests=pictures.mask_digests)
        styles = tuple(keys.style(number, pictures.digests[number]) for number in sorted(pictures.styles))
        found[device] = replace(keys, style_keys=styles)
    return found


def _keys_of_earlier_runs(
    settings: JobSettings, digest_of_model: str, pictures: Pictures, store: Store
) -> JobKeys:
    """The job's keys on the device class that earlier runs had, as far as their rows tell."""
    found = keys_by_device(settings, digest_of_model, pictures)
    for row in read_video_rows(store):
        container = row.output_rel.rpartition(".")[2]
        cuda = found[CUDA].of_video(row.video_uri)
        if row.status == "done" and row.video_key == cuda.video(row.source_digest, container):
            return found[CUDA]
    made = ChunkStore(store).lookup(found[CUDA].model()) if settings.enhance else None
    return found[CPU if made is None else CUDA]


def index_here(
    entry: CatalogEntry, settings: JobSettings, chunks: ChunkStore
) -> tuple[VideoRef, VideoIndex, Estimate | None] | SourceError:
    """Index one source on this machine, and estimate its degradation where the job asks for it; or why not.
    What the chunk store holds is not made again, and nothing is written to it."""
    try:
        path, source_digest = node_cache(settings.storage).local_path(entry.uri)
        video = VideoRef(entry.uri, source_digest, index_key(source_digest, settings.limits, settings.video))
        receipt = chunks.lookup(video.index_key)
        if receipt is not None:
            index = index_from_bytes(chunks.read(receipt))
        else:
            index = index_in_process(path, entry.uri, settings.limits, source_digest, settings.video)
        return video, index, estimate_here(settings, video, index, path, chunks)
    except SourceError as error:
        return error


def _consistency(planned: Sequence[_Planned], settings: JobSettings) -> dict[str, Any]:
    scenes = [scene for item in planned for scene in item.job.plan.scenes]
    knots = sum(len(scene.knots) for scene in scenes)
    return {
        "sharing": settings.consistency.sharing if settings.enhance else "none",
        "placed": settings.consistency.knots,
        "knots": knots,
        "anchors": sum(len(scene.anchors) for scene in scenes),
        "flash_frames": sum(scene.flashes for scene in scenes),
        "frames_per_knot": round(sum(s.last - s.first for s in scenes) / max(1, knots), 2),
    }


def _absent_scenes(planned: Sequence[_Planned]) -> list[str]:
    return [
        f"{item.record['video_uri']}: {told}"
        for item in planned
        for told in absent_scenes(item.job.keys.own_scenes, len(item.job.plan.scenes))
    ]


def _estimate(planned: Sequence[_Planned], settings: JobSettings) -> dict[str, Any]:
    scale = growth(settings)
    left = [(item, sum(len(unit.ordinals) for unit in item.job.chunks)) for item in planned]
    pixels = sum(
        frames * item.record["width"] * item.record["height"] * scale * scale for item, frames in left
    )
    return {
        "frames_left": sum(frames for _, frames in left),
        "output_pixels_left": pixels,
        "references_left": sum(len(unit.makes) or 1 for item in planned for unit in item.job.references),
    }
