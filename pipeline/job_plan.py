"""The plan of a whole job, made here without a run: what is done, what is left, what is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.catalog import CatalogEntry, output_extensions, resolve_catalog
from pipeline.commit import ChunkStore
from pipeline.disclosure import disclosure_note
from pipeline.encoder_check import check_encode
from pipeline.errors import SourceError
from pipeline.estimates import Estimate, estimate_here
from pipeline.index_process import index_in_process
from pipeline.job_keys import JobKeys, index_key
from pipeline.job_warnings import job_warnings
from pipeline.manifest import read_video_rows
from pipeline.model_files import weights_digest
from pipeline.model_fit import require_model_fit
from pipeline.pictures import Pictures, load_pictures
from pipeline.scene_overrides import absent_scenes, require_named_videos
from pipeline.settings import JobSettings
from pipeline.signer import with_signer
from pipeline.source_cache import node_cache
from pipeline.store import Store
from pipeline.video.index_io import index_from_bytes
from pipeline.video.types import VideoIndex
from pipeline.video_planner import PlannedVideo, VideoPlanner, growth
from pipeline.work import VideoRef

#: Classes of devices: bits are promised for each of them alone.
CPU, CUDA = "cpu", "cuda"


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
    planner = VideoPlanner(settings, keys, chunks, store, pictures.mask_sizes, writes=False)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda entry: index_here(entry, settings, chunks), catalog))
    planned: list[PlannedVideo] = []
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


def _consistency(planned: Sequence[PlannedVideo], settings: JobSettings) -> dict[str, Any]:
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


def _absent_scenes(planned: Sequence[PlannedVideo]) -> list[str]:
    return [
        f"{item.record['video_uri']}: {told}"
        for item in planned
        for told in absent_scenes(item.job.keys.own_scenes, len(item.job.plan.scenes))
    ]


def _estimate(planned: Sequence[PlannedVideo], settings: JobSettings) -> dict[str, Any]:
    scale = growth(settings)
    left = [(item, sum(len(unit.ordinals) for unit in item.job.chunks)) for item in planned]
    pixels = sum(
        frames * item.record["width"] * item.record["height"] * scale * scale for item, frames in left
    )
    return {
        "frames_left": sum(frames for _, frames in left),
        "output_pixels_left": pixels,
        "references_left": sum(len(unit.ordinals) for item in planned for unit in item.job.references),
    }
