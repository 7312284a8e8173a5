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

import contextlib
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.assembly import Assembly
from pipeline.attempts import attempt_ledger
from pipeline.auto_degradation import described, wants_estimate
from pipeline.books import Books
from pipeline.catalog import CatalogEntry, output_extensions, resolve_catalog
from pipeline.cluster import Cluster, set_patience, start_ray
from pipeline.commit import ChunkStore
from pipeline.encoder_check import check_encode
from pipeline.errors import StoreError
from pipeline.events import Event, OnEvent
from pipeline.failures import (
    DRAINING,
    outcome_of,
    raise_if_it_ends_the_run,
)
from pipeline.finished_job import conclude, finished_videos
from pipeline.interruption import Interruption, watch_signals
from pipeline.job_keys import JobKeys
from pipeline.job_plan import CPU, JobPlan, Rejected, keys_by_device, plan_job
from pipeline.keys import code_digest
from pipeline.lease import hold_lease
from pipeline.manifest import VideoRow, read_video_rows
from pipeline.model_files import weights_digest
from pipeline.model_fit import require_model_fit
from pipeline.passes import Passes, by_key, start_row, unit_rows
from pipeline.pictures import Pictures, load_pictures
from pipeline.preparation import Prepared, prepare_model
from pipeline.run_history import recorded
from pipeline.run_record import RunSummary, summary_of, write_metrics, write_plan
from pipeline.scene_overrides import require_named_videos
from pipeline.settings import JobSettings
from pipeline.settled import settled_videos
from pipeline.signer import with_signer
from pipeline.steps.context import TaskContext
from pipeline.steps.enhance import EnhanceUnits
from pipeline.steps.rows import Row
from pipeline.steps.sources import estimate_source, index_source
from pipeline.steps.units import decode_unit, encode_unit, transcode_unit
from pipeline.store import Store
from pipeline.video_jobs import Job, VideoJob, quarantined_row
from pipeline.video_planner import PLAN_STAGE, plan_videos
from pipeline.work import Failure

#: Seconds a network step may take for one frame before the run is thought stuck (large frames on CPU).
_PATIENCE_PER_FRAME = 60.0
#: A damaged result shows when it is read; what was made from it may have to be read again.
_ROUNDS = 3


def run_job(
    settings: JobSettings,
    *,
    on_event: OnEvent,
    only_quarantined: bool = False,
    max_failures: int | None = None,
    job_yaml: str = "",
) -> RunSummary:
    """Run or resume a job.

    ``only_quarantined``: take up the quarantined videos alone, and forget what was held against them.
    ``max_failures``: end the run when it has quarantined more videos than this; None never does.

    Raises SpecError before any work, StoreError when storage gives up, RunError when workers do or too many
    videos fail, KeyboardInterrupt when it was interrupted. After each of them it can be run again.
    """
    begun = time.monotonic()
    check_encode(settings)
    settings = with_signer(settings)
    store = Store(settings.output, settings.storage)
    store.check()
    catalog = resolve_catalog(
        settings.source, settings.output, settings.storage, output_extensions(settings.encode.codec)
    )
    require_named_videos(settings.scenes, [entry.uri for entry in catalog])
    if only_quarantined:
        refused = {row.video_uri for row in read_video_rows(store) if row.status == "quarantined"}
        catalog = [entry for entry in catalog if entry.uri in refused]
    pictures = load_pictures(settings)
    for note in pictures.notes:
        on_event(Event("log", f"warning: {note}", 0, 0))
    digest = weights_digest(settings)
    require_model_fit(settings)
    run_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)
    by_device = keys_by_device(settings, digest, pictures)
    with recorded(store, run_id, settings.name, len(catalog)) as log:
        finished = finished_videos(catalog, list(by_device.values()), store)
        if finished is not None:
            keys = by_device[CPU]  # nothing is computed on any device
            log.summary = conclude(run_id, store, keys, finished, on_event, job_yaml, begun)
            return log.summary
        with contextlib.ExitStack() as last, start_ray(settings.cluster) as cluster:
            # Taken when the cluster is there, and given back when its workers are gone.
            lease = last.enter_context(hold_lease(store, run_id))
            limit = settings.cluster.max_attempts
            with (
                attempt_ledger(run_id, store, lease.fence, limit, forget=only_quarantined) as ledger,
                watch_signals(settings.cluster.drain_seconds, on_event, ledger) as interruption,
            ):
                store.discard_unfinished()
                context = TaskContext(
                    settings.output,
                    settings.storage,
                    settings.limits,
                    settings.video,
                    settings.encode,
                    ledger,
                    code_digest(),
                    identity=not settings.enhance,
                    fence=lease.fence,
                    mask_clips=tuple((number, clip.video) for number, clip in pictures.clips.items()),
                    provenance=settings.provenance,
                )
                for clip in pictures.clips.values():
                    clip.commit(ChunkStore(store))
                log.books = books = Books(store, run_id, lease.fence, on_event, max_failures)
                passes = Passes(limit, books, lease, interruption, on_event)
                run = _Run(run_id, settings, store, cluster, context, on_event, passes, interruption, books)
                try:
                    log.summary = run.execute(catalog, by_device, pictures, job_yaml, begun)
                    return log.summary
                finally:
                    books.close(ours=lease.still_ours())


@dataclass
class _Run:
    """One run in progress; methods in the order of the module's picture."""

    run_id: str
    settings: JobSettings
    store: Store
    cluster: Cluster
    context: TaskContext
    on_event: OnEvent
    passes: Passes
    interruption: Interruption
    books: Books

    def execute(
        self,
        catalog: list[CatalogEntry],
        by_device: Mapping[str, JobKeys],
        pictures: Pictures,
        job_yaml: str,
        begun: float,
    ) -> RunSummary:
        """All phases for what is not finished; once more for videos of which a committed result turns out to
        be damaged."""
        keys = by_device[self.cluster.device]
        settled = settled_videos(catalog, list(by_device.values()), self.store, self.context.sources)
        left = [entry for entry in catalog if entry.uri not in settled]
        job = self._phases(left, keys, pictures, settled.values(), job_yaml)
        for _ in range(_ROUNDS - 1):
            again = [entry for entry in catalog if entry.uri in self.books.torn]
            if again:
                self.books.torn.clear()
                self._phases(again, keys, pictures)
        if self.books.torn:
            raise StoreError(
                f"{self.store.root}: committed results of {sorted(self.books.torn)} keep vanishing; find out "
                "who else writes there, then run the job again"
            )
        summary = summary_of(self.run_id, len(catalog), job, self.books.finished.values(), begun)
        write_metrics(self.store, summary)
        return summary

    def _phases(
        self,
        catalog: list[CatalogEntry],
        keys: JobKeys,
        pictures: Pictures,
        settled: Iterable[VideoRow] = (),
        job_yaml: str | None = None,
    ) -> Job:
        """All phases for ``catalog``. The plan, which tells of ``settled`` videos too, is written if there is
        a ``job_yaml``."""
        prepared = Prepared({})
        if catalog:
            prepared = prepare_model(keys, pictures, self.cluster, self.context)
        indexed = self._index(catalog)
        if prepared.pending:
            self.on_event(Event("phase", "loading the model and the style reference", 0, 0))
        prepared.wait()
        job = plan_videos(
            self.settings, keys, indexed, ChunkStore(self.store), self.store, pictures.mask_sizes
        ).with_settled(settled)
        self.books.list_units(job.unlisted)
        if job_yaml is not None:
            self.books.already_done = len(job.done_before)
            write_plan(self.store, self.run_id, job, job_yaml)
        for uri, estimate in job.estimates.items():
            self.on_event(Event("log", f"{uri}: {described(estimate)}", 0, 0))
        for row in job.refused:
            if row.stage == PLAN_STAGE:
                failure = Failure(row.code, row.error, False, row.stage, row.attempts, row.node)
                outcome = outcome_of(failure)
                self.books.note_failure(failure, outcome, uri=row.video_uri, key=row.video_key)
        self.books.refuse(job.refused)
        set_patience(_patience(job))
        config = pictures.enhancer_config(self.settings, self.cluster.device)
        for level in ("anchors", "knots"):
            self._references(level, job, config, prepared.style_numbers)
        self._chunks(job, config, prepared.style_numbers)
        return job

    def _index(self, catalog: list[CatalogEntry]) -> list[tuple[CatalogEntry, Row]]:
        by_uri = {entry.uri: entry for entry in catalog}
        rows = [start_row(entry.uri, uri=entry.uri) for entry in catalog]
        found: dict[str, Row] = {}
        for row, _ in self.passes.run("indexing", rows, self._index_dataset):
            found[row["uri"]] = row
        self.interruption.check()
        return [(by_uri[uri], found[uri]) for uri in sorted(found)]

    def _references(self, level: str, job: Job, config: Any, style_keys: Mapping[int, str]) -> None:
        units = [unit for video in self._open(job) for unit in video.references if unit.level == level]
        owners = by_key(units)

        def dataset(rows: list[Row]) -> Any:
            return (
                _one_row_per_block(rows)
                .map(decode_unit, fn_kwargs={"context": self.context}, num_cpus=1)
                .map(EnhanceUnits, **self._actors(len(rows), config, style_keys))
            )

        for row, answered in self.passes.run(level, unit_rows(owners), dataset, owners):
            for unit in answered:
                self.books.note_unit(row, unit, job.keys)
        self.interruption.check()

    def _chunks(self, job: Job, config: Any, style_keys: Mapping[int, str]) -> None:
        """The main phase: chunks stream through; a video is assembled when its last one is committed."""
        assembly = Assembly(self.context, self._publish)
        waiting = {video.task.video.uri: len(video.chunks) for video in self._open(job)}
        by_uri = {video.task.video.uri: video for video in self._open(job)}

        def assemble(uri: str) -> None:
            self.books.keep_units()  # a published video is not looked at again, so its units are listed first
            assembly.start(by_uri[uri])

        for uri, left in waiting.items():
            if left == 0:
                assemble(uri)
        owners = by_key(unit for uri in waiting for unit in by_uri[uri].chunks)

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

        def all_assembled() -> None:
            with self.interruption.units_at_work():
                assembly.collect(wait=True)

        for row, answered in self.passes.run("frames", unit_rows(owners), dataset, owners, all_assembled):
            for unit in answered:
                self.books.note_unit(row, unit, job.keys)
                uri = unit.video.uri
                waiting[uri] -= 1
                if waiting[uri] == 0 and self.books.is_open(uri):
                    assemble(uri)
            assembly.collect(wait=False)
        all_assembled()
        self.interruption.check()

    def _open(self, job: Job) -> list[VideoJob]:
        """Videos still to be worked on: planned, and not quarantined or torn in an earlier phase."""
        return [video for video in job.videos if self.books.is_open(video.task.video.uri)]

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

    def _publish(self, video: VideoJob, outcome: VideoRow | Failure) -> None:
        """Book the end of an assembly."""
        if isinstance(outcome, VideoRow):
            self.books.note_published(outcome)
        elif outcome.code != DRAINING:
            source = video.task.video
            key = video.task.video_key
            self.books.note_failure(outcome, outcome_of(outcome), uri=source.uri, key=key)
            raise_if_it_ends_the_run(outcome)
            self.books.refuse([quarantined_row(video.keys, source, outcome)])


def _one_row_per_block(rows: Iterable[Row]) -> Any:
    items = list(rows)
    return ray.data.from_items(items, override_num_blocks=len(items))


def _patience(job: Job) -> float:
    slowest = max((len(unit.ordinals) for video in job.videos for unit in video.chunks), default=0)
    return max(1800.0, _PATIENCE_PER_FRAME * slowest)


__all__ = ["Event", "JobPlan", "Rejected", "RunSummary", "plan_job", "run_job"]
