"""From the index of a video to what is left to do for it. Pure but for reading the store."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from pipeline.auto_degradation import placed, wants_estimate
from pipeline.catalog import CatalogEntry, output_relative
from pipeline.commit import ChunkStore
from pipeline.enhance_fit import require_fit
from pipeline.errors import ResultLostError, SourceError
from pipeline.estimates import Estimate, committed_estimate
from pipeline.failures import LOST, failure_of
from pipeline.job_keys import JobKeys
from pipeline.job_warnings import estimate_warnings
from pipeline.manifest import ChunkRow, VideoRow, find_row, read_chunk_rows
from pipeline.mask_clips import MaskSize
from pipeline.model_fit import largest_side
from pipeline.plan import plan_video
from pipeline.proof import is_published
from pipeline.scene_overrides import absent_scenes
from pipeline.settings import JobSettings
from pipeline.store import Store
from pipeline.units import Units, missing_references, units_of, unlisted_rows
from pipeline.video.container import choose_container
from pipeline.video.copy_name import COPY, copy_extension
from pipeline.video.geometry import as_upright_size
from pipeline.video.index_io import index_from_bytes
from pipeline.video.types import VideoIndex
from pipeline.video_jobs import Job, VideoJob, planned_row, quarantined_row
from pipeline.work import Failure, VideoRef, VideoTask

#: Videos that are planned at a time: most of it is waiting for the store.
_READERS = 16
PLAN_STAGE = "plan"


def plan_videos(
    settings: JobSettings,
    keys: JobKeys,
    indexed: Sequence[tuple[CatalogEntry, dict[str, Any]]],
    chunks: ChunkStore,
    store: Store,
    mask_sizes: Mapping[int, MaskSize],
) -> Job:
    """Plan every indexed source and drop what is committed already.

    ``indexed`` pairs catalog entries with rows of `pipeline.steps.sources.index_source`. A video whose frames
    the ``enhance`` list does not fit is refused; ``mask_sizes`` as in `pipeline.pictures.Pictures`.
    """
    listed = frozenset((row.video_uri, row.key) for row in read_chunk_rows(store))
    planner = VideoPlanner(settings, keys, chunks, store, mask_sizes, listed)
    with ThreadPoolExecutor(_READERS) as pool:
        planned = list(pool.map(lambda pair: planner.plan(*pair), indexed))
    jobs = [item for item in planned if isinstance(item, PlannedVideo)]
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
class PlannedVideo:
    """``job`` is what is left of it, ``done`` its row where nothing is, ``record`` for ``plan.json``."""

    job: VideoJob
    done: VideoRow | None
    unlisted: tuple[ChunkRow, ...]
    chunks_done: int
    record: dict[str, Any]


@dataclass(frozen=True)
class VideoPlanner:
    """Plans videos of one job. ``listed``: source and key of chunks that the manifest has; ``writes``:
    whether what is found out may be noted in the output."""

    settings: JobSettings
    keys: JobKeys
    chunks: ChunkStore
    store: Store
    mask_sizes: Mapping[int, MaskSize]
    listed: frozenset[tuple[str, str]] = frozenset()
    writes: bool = True

    @functools.cached_property
    def largest_side(self) -> int | None:
        """Of pictures of the job's model."""
        return largest_side(self.settings.model) if self.settings.enhance else None

    def plan(self, entry: CatalogEntry, row: dict[str, Any]) -> PlannedVideo | VideoRow:
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
    ) -> PlannedVideo:
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
            require_fit(own.enhance.items, *size, sizes, index.frames, self.largest_side)
        require_fit(keys.enhance, *size, mask_sizes, index.frames, self.largest_side)
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
        return PlannedVideo(job, done, tuple(unlisted), chunks_done, record)


def _refusal(code: str, message: str) -> Failure:
    return Failure(code, message, False, PLAN_STAGE, 1, platform.node())


def growth(settings: JobSettings) -> int:
    """Linear growth of pictures over the whole ``enhance`` list."""
    scale = 1
    for item in settings.enhance:
        scale *= int(item.get("restore", {}).get("degradation", {}).get("scale", 1))
    return scale
