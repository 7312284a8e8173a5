"""Catalogs of any length for `bench planning`: real files, real indexes, real manifest rows, no real work.

Every source is a short clip with its number behind the last box, so that all digests differ; its index is
that of the clip. What a finished job leaves is written through the code that runs use.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from jobs.bench.video_clips import Moving, write_moving
from jobs.spec import JobSpec, parse_spec
from pipeline.catalog import CatalogEntry, output_relative, resolve_catalog
from pipeline.commit import ChunkStore, publish_video
from pipeline.job_keys import JobKeys, index_key
from pipeline.model_files import weights_digest
from pipeline.settings import JobSettings, Limits
from pipeline.source_cache import SourceCache
from pipeline.store import Store
from pipeline.video.index import build_index
from pipeline.video.index_io import index_to_bytes
from pipeline.video_jobs import planned_row
from pipeline.work import VideoRef

WIDTH, HEIGHT = 64, 48
_CONTAINER = "mp4"


def job_over(folder: Path, output: Path) -> JobSpec:
    """One denoising of all ``*.mp4`` in ``folder`` with the embedded model, on this machine's processors."""
    denoise = {"degradation": {"kind": "denoise", "noise": 0.05}}
    return parse_spec(
        {
            "name": "planning",
            "source": str(folder / f"*.{_CONTAINER}"),
            "output": str(output),
            "enhance": [{"restore": denoise}],
            "cluster": {"address": "local", "gpus_per_actor": 0},
        }
    )


def write_probed_catalog(folder: Path, videos: int, frames: int, settings: JobSettings) -> None:
    """``videos`` sources in ``folder``, whose indexes lie in the job's chunk store already."""
    folder.mkdir(parents=True)
    clip = write_moving(folder.parent / "clip.mp4", Moving(WIDTH, HEIGHT, frames))
    content = Path(clip).read_bytes()
    index = build_index(clip, clip, Limits(), "", settings.video)
    chunks = ChunkStore(Store(settings.output, settings.storage))
    for number in range(videos):
        # Boxes that no reader knows are skipped: eight bytes of header, eight of content.
        own = content + (16).to_bytes(4, "big") + b"free" + f"{number:08d}".encode()
        (folder / f"{number:08d}.{_CONTAINER}").write_bytes(own)
        digest = hashlib.sha256(own).hexdigest()
        told = index_to_bytes(dataclasses.replace(index, source_digest=digest))
        key = index_key(digest, settings.limits, settings.video)
        chunks.commit_bytes(key, ".index", told, {"frames": index.frames})


def finish_catalog(settings: JobSettings, sources: SourceCache, device: str = "cpu") -> None:
    """Publish every source as its own result, with the rows that a run on ``device`` leaves."""
    store = Store(settings.output, settings.storage)
    keys = JobKeys(settings, weights_digest(settings), device)
    for entry in resolve_catalog(settings.source, settings.output, settings.storage):
        path, digest = sources.local_path(entry.uri)
        video = VideoRef(
            entry.uri,
            digest,
            index_key(digest, settings.limits, settings.video),
            sources.version(entry.uri),
        )
        metrics: dict[str, Any] = {"chunks": 1, "bytes": Path(path).stat().st_size}
        row = dataclasses.replace(planned_row(keys, video, _CONTAINER), metrics=metrics)
        publish_video(store, path, output_relative(entry, _CONTAINER), row)


def entries_of(settings: JobSettings) -> list[CatalogEntry]:
    """The catalog of a job, as runs list it."""
    return resolve_catalog(settings.source, settings.output, settings.storage)
