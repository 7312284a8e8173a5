"""A job with which nothing is left to do: told from storage, without a cluster and without a model."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.books import Books
from pipeline.catalog import CatalogEntry
from pipeline.events import OnEvent
from pipeline.job_keys import JobKeys
from pipeline.lease import hold_lease
from pipeline.manifest import VideoRow
from pipeline.run_record import RunSummary, summary_of, write_metrics, write_plan
from pipeline.settled import settled_videos
from pipeline.source_cache import node_cache
from pipeline.store import Store
from pipeline.video_jobs import Job


def finished_videos(
    catalog: Sequence[CatalogEntry], keys: Sequence[JobKeys], store: Store
) -> list[VideoRow] | None:
    """The rows of all videos of ``catalog`` if nothing is to be done with any of them, else None. ``keys``
    as in `pipeline.settled.settled_videos`. Raises StoreError."""
    settled = settled_videos(catalog, keys, store, node_cache(store.storage), all_or_none=True)
    return list(settled.values()) if len(settled) == len(catalog) else None


def conclude(
    run_id: str,
    store: Store,
    keys: JobKeys,
    rows: Sequence[VideoRow],
    on_event: OnEvent,
    job_yaml: str,
    begun: float,
) -> RunSummary:
    """The run that finds all ``rows`` done: its record, and the tables of what an earlier one left unmerged.

    Raises LeaseHeldError when another run is at work there, and StoreError.
    """
    with hold_lease(store, run_id) as lease:
        store.discard_unfinished()
        books = Books(store, run_id, lease.fence, on_event, None)
        try:
            job = Job.untouched(keys).with_settled(rows)
            write_plan(store, run_id, job, job_yaml)
            summary = summary_of(run_id, len(rows), job, (), begun)
            write_metrics(store, summary)
            return summary
        finally:
            books.close(ours=lease.still_ours())
