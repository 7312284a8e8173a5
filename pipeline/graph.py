"""The job, top to bottom.

    catalog -> index [CPU]                       one row per source
    style   -> references of the style pictures  once per job, beside indexing
    plan    -> scenes, knots, chunks             driver, pure; what is committed already is dropped
    anchors -> [actors]                          one row per scene
    knots   -> [actors]                          one row per chunk: its knots that are no anchors
    chunks  -> decode [CPU] -> enhance [actors] -> encode + commit [CPU] -> rows of about 1 kB
    rows    -> per-video countdown -> assemble + verify + publish [CPU] -> manifest row

One Dataset per phase for the whole run, one row per block: Ray Data's first second of an execution runs one
task at a time, and an errored block would cost its neighbours.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from pipeline.auto_degradation import described, wants_estimate
from pipeline.catalog import CatalogEntry, output_extensions, resolve_catalog
from pipeline.cluster import Cluster, attempt_ledger, set_patience, start_ray
from pipeline.commit import ChunkStore
from pipeline.encoder_check import check_encode
from pipeline.errors import SpecError, StoreError
from pipeline.events import Event, OnEvent, phase_events
from pipeline.job_keys import JobKeys
from pipeline.job_plan import Job, JobPlan, Rejected, VideoJob, plan_job, plan_videos, quarantined_row
from pipeline.keys import canonical_json, code_digest
from pipeline.lease import Lease, hold_lease
from pipeline.manifest import (
    ChunkJournal,
    ChunkRow,
    VideoRow,
    VideosTable,
    compact,
    read_video_rows,
    write_quarantined,
)
from pipeline.model_files import model_digest
from pipeline.pictures import Pictures, load_pictures
from pipeline.preparation import prepare_model
from pipeline.settings import JobSettings
from pipeline.store import Store
from pipeline.tasks import (
    EnhanceUnits,
    Row,
    TaskContext,
    assemble_video,
    decode_unit,
    encode_unit,
    estimate_source,
    index_source,
    transcode_unit,
)
from pipeline.units import manifest_rows
from pipeline.video.nvenc import UNAVAILABLE
from pipeline.work import Failure, UnitTask

#: Seconds a network step may take for one frame before the run is thought stuck (large frames on CPU).
_PATIENCE_PER_FRAME = 60.0
_ASSEMBLIES_IN_FLIGHT = 4


@dataclass(frozen=True)
class RunSummary:
    """How a run ended. ``already_done`` videos and ``chunks_done_before`` were found committed."""

    run_id: str
    videos: int
    done: int
    quarantined: int
    already_done: int
    chunks: int
    chunks_done_before: int
    seconds: float
    rows: tuple[VideoRow, ...]


def run_job(
    settings: JobSettings,
    *,
    on_event: OnEvent,
    only_quarantined: bool = False,
    job_yaml: str = "",
) -> RunSummary:
    """Run or resume a job. Raises SpecError before any work, StoreError when storage gives up."""
    begun = time.monotonic()
    check_encode(settings)
    store = Store(settings.output, settings.storage)
    store.check()
    catalog = resolve_catalog(
        settings.source, settings.output, settings.storage, output_extensions(settings.encode.codec)
    )
    if only_quarantined:
        refused = {row.video_uri for row in read_video_rows(store) if row.status == "quarantined"}
        catalog = [entry for entry in catalog if entry.uri in refused]
    pictures = load_pictures(settings)
    digest = model_digest(settings.model) if settings.enhance else ""
    run_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)
    with (
        hold_lease(store, run_id) as lease,
        start_ray(settings.cluster) as cluster,
        attempt_ledger(run_id) as ledger,
    ):
        store.discard_unfinished()
        context = TaskContext(
            settings.output,
            settings.storage,
            settings.limits,
            settings.video,
            settings.encode,
            ledger,
            settings.cluster.max_attempts,
            code_digest(),
            identity=not settings.enhance,
            fence=lease.fence,
            mask_clips=tuple((number, clip.video) for number, clip in pictures.clips.items()),
        )
        for clip in pictures.clips.values():
            clip.commit(ChunkStore(store))
        keys = JobKeys(settings, digest, cluster.device, mask_digests=pictures.mask_digests)
        run = _Run(run_id, settings, store, cluster, context, on_event, lease)
        try:
            return run.execute(catalog, keys, pictures, job_yaml, begun)
        finally:
            run.close()


@dataclass
class _Run:
    """One run in progress; methods in the order of the module's picture."""

    run_id: str
    settings: JobSettings
    store: Store
    cluster: Cluster
    context: TaskContext
    on_event: OnEvent
    lease: Lease
    chunk_rows: list[ChunkRow] = field(default_factory=list)
    finished: dict[str, VideoRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.journal = ChunkJournal(self.store, self.run_id)
        self.table = VideosTable(self.store)

    def execute(
        self,
        catalog: list[CatalogEntry],
        keys: JobKeys,
        pictures: Pictures,
        job_yaml: str,
        begun: float,
    ) -> RunSummary:
        """All phases."""
        prepared = prepare_model(keys, pictures, self.cluster, self.context)
        indexed = self._index(catalog)
        keys = dataclasses.replace(keys, style_keys=prepared.style_keys)
        if prepared.pending:
            self.on_event(Event("phase", "loading the model and the style reference", 0, 0))
        prepared.wait()
        job = plan_videos(
            self.settings, keys, indexed, ChunkStore(self.store), self.store, pictures.mask_sizes
        )
        self._write_run_files(job, job_yaml)
        for uri, estimate in job.estimates.items():
            self.on_event(Event("log", f"{uri}: {described(estimate)}", 0, 0))
        for row in job.refused:
            self._quarantine(row)
        set_patience(_patience(job))
        config = pictures.enhancer_config(self.settings, self.cluster.device)
        for level in ("anchors", "knots"):
            self._references(level, job, config, prepared.style_numbers)
        self._chunks(job, config, prepared.style_numbers)
        rows = {**{row.video_uri: row for row in job.done_before}, **self.finished}
        summary = RunSummary(
            run_id=self.run_id,
            videos=len(catalog),
            done=sum(row.status == "done" for row in rows.values()),
            quarantined=sum(row.status == "quarantined" for row in rows.values()),
            already_done=len(job.done_before),
            chunks=job.chunks,
            chunks_done_before=job.chunks_done,
            seconds=round(time.monotonic() - begun, 3),
            rows=tuple(rows[uri] for uri in sorted(rows)),
        )
        self._write_metrics(summary)
        return summary

    def close(self) -> None:
        """Readers' manifests, whatever happened: what is committed is committed. The tables belong to the
        run that holds the lease."""
        ours = self.lease.still_ours()
        self.journal.close(self.chunk_rows, merge=ours)
        if ours:
            compact(self.store)

    def _index(self, catalog: list[CatalogEntry]) -> list[tuple[CatalogEntry, Row]]:
        by_uri = {entry.uri: entry for entry in catalog}
        rows = [_start_row(entry.uri, uri=entry.uri) for entry in catalog]
        found: dict[str, Row] = {}
        for row in self._passes("indexing", rows, self._index_dataset):
            found[row["uri"]] = row
        return [(by_uri[uri], found[uri]) for uri in sorted(found)]

    def _references(self, level: str, job: Job, config: Any, style_keys: Mapping[int, str]) -> None:
        units = [unit for video in self._open(job) for unit in video.references if unit.level == level]
        owners = _by_key(units)
        rows = [_unit_row(same[0]) for same in owners.values()]

        def dataset(rows: list[Row]) -> Any:
            return (
                _one_row_per_block(rows)
                .map(decode_unit, fn_kwargs={"context": self.context}, num_cpus=1)
                .map(EnhanceUnits, **self._actors(len(rows), config, style_keys))
            )

        for row in self._passes(level, rows, dataset):
            for unit in owners[row["key"]]:
                self._note(row, unit, job)

    def _chunks(self, job: Job, config: Any, style_keys: Mapping[int, str]) -> None:
        """The main phase: chunks stream through; a video is assembled when its last one is committed."""
        assembly = _Assembly(self)
        waiting = {video.task.video.uri: len(video.chunks) for video in self._open(job)}
        by_uri = {video.task.video.uri: video for video in self._open(job)}
        for uri, left in waiting.items():
            if left == 0:
                assembly.start(by_uri[uri])
        owners = _by_key(unit for uri in waiting for unit in by_uri[uri].chunks)
        rows = [_unit_row(same[0]) for same in owners.values()]

        def dataset(rows: list[Row]) -> Any:
            data = _one_row_per_block(rows)
            common = {"fn_kwargs": {"context": self.context}, "num_cpus": 1}
            if not self.settings.enhance:
                return data.map(transcode_unit, **common)
            return (
                data.map(decode_unit, **common)
                .map(EnhanceUnits, **self._actors(len(rows), config, style_keys))
                .map(encode_unit, **common)
            )

        for row in self._passes("frames", rows, dataset):
            for unit in owners[row["key"]]:
                self._note(row, unit, job)
                uri = unit.video.uri
                waiting[uri] -= 1
                if waiting[uri] == 0 and uri not in self.finished:
                    assembly.start(by_uri[uri])
            assembly.collect(wait=False)
        assembly.collect(wait=True)

    def _open(self, job: Job) -> list[VideoJob]:
        """Videos still to be worked on: planned, and not quarantined by an earlier phase."""
        return [video for video in job.videos if video.task.video.uri not in self.finished]

    def _passes(self, label: str, rows: list[Row], dataset: Callable[[list[Row]], Any]) -> Iterator[Row]:
        """Stream finished rows; failures that may pass are tried again in a further pass."""
        show = phase_events(self.on_event, label, len(rows))
        for attempt in range(1, self.settings.cluster.max_attempts + 1):
            if not rows:
                return
            again: list[Row] = []
            for row in dataset(rows).iter_rows():
                self.lease.check()
                self.journal.keep(self.chunk_rows)
                last = attempt == self.settings.cluster.max_attempts
                if row["status"] == "failed" and _failure(row).retry and not last:
                    again.append(_retry_row(row))
                    continue
                show(row)
                yield row
            rows = again

    def _index_dataset(self, rows: list[Row]) -> Any:
        common = {"fn_kwargs": {"context": self.context}, "num_cpus": 1}
        data = _one_row_per_block(rows).map(index_source, **common)
        return data.map(estimate_source, **common) if wants_estimate(self.settings.enhance) else data

    def _actors(self, rows: int, config: Any, style_keys: Mapping[int, str]) -> dict[str, Any]:
        return {
            "fn_constructor_kwargs": {
                "config": config,
                "style_keys": dict(style_keys),
                "context": self.context,
            },
            "compute": self.cluster.actors(rows),
            **self.cluster.actor_resources,
        }

    def _note(self, row: Row, task: UnitTask, job: Job) -> None:
        """Book a finished unit, or quarantine its video."""
        if row["status"] == "failed":
            _stop_without_encoder(_failure(row))
            if task.video.uri not in self.finished:
                self._quarantine(quarantined_row(job.keys, task.video, _failure(row)))
            return
        self.chunk_rows += manifest_rows(task, row)

    def _quarantine(self, row: VideoRow) -> None:
        write_quarantined(self.store, row, self.context.fence)
        self.finished[row.video_uri] = row
        self.table.note(row)
        self.on_event(Event("log", f"quarantined {row.video_uri}: {row.code}: {row.error}", 0, 0))

    def publish(self, video: VideoJob, outcome: VideoRow | Failure) -> None:
        """Book the end of an assembly."""
        if isinstance(outcome, VideoRow):
            self.finished[outcome.video_uri] = outcome
            self.table.note(outcome)
            self.on_event(Event("video", f"published {outcome.output_rel}", len(self.finished), 0))
        elif outcome.retry:
            raise StoreError(f"{video.task.video.uri}: could not be published: {outcome.message}")
        else:
            self._quarantine(quarantined_row(video.keys, video.task.video, outcome))

    def _write_run_files(self, job: Job, job_yaml: str) -> None:
        folder = f"runs/{self.run_id}"
        self.store.put(f"{folder}/job.yaml", job_yaml.encode())
        self.store.put(f"{folder}/plan.json", canonical_json({"run_id": self.run_id, **job.record()}))

    def _write_metrics(self, summary: RunSummary) -> None:
        facts = {
            field.name: getattr(summary, field.name)
            for field in dataclasses.fields(summary)
            if field.name != "rows"
        }
        self.store.put(f"runs/{self.run_id}/metrics.json", canonical_json(facts))


class _Assembly:
    """Assemblies in flight: a few at a time, so that they never crowd out decoding."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._queue: list[VideoJob] = []
        self._running: dict[Any, VideoJob] = {}

    def start(self, video: VideoJob) -> None:
        """Queue a video whose segments are all committed."""
        self._queue.append(video)
        self._launch()

    def collect(self, *, wait: bool) -> None:
        """Book what has ended; ``wait`` until everything has."""
        while self._running or self._queue:
            self._launch()
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=None if wait else 0)
            if not ready:
                return
            for reference in ready:
                self._run.publish(self._running.pop(reference), ray.get(reference))

    def _launch(self) -> None:
        while self._queue and len(self._running) < _ASSEMBLIES_IN_FLIGHT:
            video = self._queue.pop(0)
            reference = _ASSEMBLE.remote(video.task, video.row, self._run.context)
            self._running[reference] = video


_ASSEMBLE = ray.remote(num_cpus=1, max_retries=-1)(assemble_video)


def _start_row(key: str, **facts: Any) -> Row:
    return {"key": key, "status": "ok", "failure": "", "seconds": 0.0, "attempts": 0, "node": "", **facts}


def _by_key(units: Iterable[UnitTask]) -> dict[str, list[UnitTask]]:
    """Units that are the same work: equal videos under several names share their results."""
    owners: dict[str, list[UnitTask]] = {}
    for unit in units:
        owners.setdefault(unit.key, []).append(unit)
    return owners


def _unit_row(unit: UnitTask) -> Row:
    return _start_row(unit.key, task=unit.to_json())


def _retry_row(row: Row) -> Row:
    kept = {name: row[name] for name in ("uri", "task") if name in row}
    return _start_row(row["key"], **kept)


def _stop_without_encoder(failure: Failure) -> None:
    """A worker without the job's hardware encoder says nothing about the video: quarantine none for it."""
    if failure.code == UNAVAILABLE:
        raise SpecError(failure.message, field="encode.codec")


def _failure(row: Row) -> Failure:
    return Failure(**json.loads(row["failure"]))


def _one_row_per_block(rows: Iterable[Row]) -> Any:
    items = list(rows)
    return ray.data.from_items(items, override_num_blocks=len(items))


def _patience(job: Job) -> float:
    slowest = max((len(unit.ordinals) for video in job.videos for unit in video.chunks), default=0)
    return max(1800.0, _PATIENCE_PER_FRAME * slowest)


__all__ = ["Event", "JobPlan", "Rejected", "RunSummary", "plan_job", "run_job"]
