"""What a run writes down about its videos: finished units, failures, quarantined and published videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import RunError
from pipeline.events import Event, OnEvent
from pipeline.failures import LOST, Outcome, failure_of, failure_row
from pipeline.job_keys import JobKeys
from pipeline.journal import CHUNKS, FAILURES, RUNS, Journal, merge_rows
from pipeline.lease import Fence
from pipeline.manifest import ChunkRow, VideoRow, VideosTable, compact, write_quarantined
from pipeline.store import Store
from pipeline.units import manifest_rows
from pipeline.video_jobs import quarantined_row
from pipeline.work import Failure, UnitTask


class Books:
    """``finished``: rows of videos that this run published or quarantined, by URI; ``already_done``: how many
    it found done; ``torn``: videos of which a committed result turned out to be damaged, so that they have to
    be gone through again."""

    def __init__(
        self, store: Store, run_id: str, fence: Fence, on_event: OnEvent, max_failures: int | None
    ) -> None:
        self.finished: dict[str, VideoRow] = {}
        self.already_done = 0
        self.torn: set[str] = set()
        self._store = store
        self._run_id = run_id
        self._fence = fence
        self._on_event = on_event
        self._max_failures = max_failures
        self._units = Journal(store, CHUNKS, run_id)
        self._failures = Journal(store, FAILURES, run_id)
        self._table = VideosTable(store)

    def is_open(self, uri: str) -> bool:
        """Whether a video is still to be worked on in this round."""
        return uri not in self.finished and uri not in self.torn

    def note_unit(self, row: Mapping[str, Any], task: UnitTask, keys: JobKeys) -> None:
        """Book a finished unit, or quarantine its video. Raises RunError as `refuse` does."""
        if row["status"] != "failed":
            self._units.note(*manifest_rows(task, row))
            if row.get("memory_full"):
                message = (
                    f"{task.video.uri}: {task.level} {task.number} did not fit into memory at once and was "
                    f"computed in {row['slices']} slices"
                )
                self._on_event(Event("log", message, 0, 0))
        elif task.video.uri not in self.finished:
            self.refuse([quarantined_row(keys, task.video, failure_of(row))])

    def list_units(self, rows: Iterable[ChunkRow]) -> None:
        """Book units that an earlier run committed and did not live to list."""
        self._units.note(*rows)

    def keep_units(self) -> None:
        """Make sure that the units booked so far outlive this run."""
        self._units.append()

    def note_failure(
        self, failure: Failure, outcome: Outcome, *, uri: str, key: str, task: UnitTask | None = None
    ) -> None:
        """Book one failed attempt, whatever follows from it."""
        row = failure_row(self._run_id, failure, outcome, uri=uri, key=key, task=task)
        self._failures.note(row)

    def note_published(self, row: VideoRow) -> None:
        """Book a published video."""
        self.finished[row.video_uri] = row
        self._table.note(row)
        self._on_event(Event("video", f"published {row.output_rel}", len(self.finished), 0))

    def refuse(self, rows: Iterable[VideoRow]) -> None:
        """Quarantine videos, but for those of which a result is to be computed again.

        Raises RunError when more than ``max_failures`` were quarantined, after writing all of ``rows``.
        """
        for row in rows:
            if row.code == LOST:
                self.torn.add(row.video_uri)
                self._on_event(Event("log", f"to be computed again: {row.error}", 0, 0))
                continue
            write_quarantined(self._store, row, self._fence)
            self.finished[row.video_uri] = row
            self._table.note(row)
            told = f"quarantined {row.video_uri}: {row.code}: {row.error}"
            self._on_event(Event("quarantined", told, 0, 0))
        failed = sum(row.status == "quarantined" for row in self.finished.values())
        if self._max_failures is not None and failed > self._max_failures:
            raise RunError(
                f"stopped: {failed} videos failed in this run, more than --max-failures "
                f"{self._max_failures}; 'reelweave status' says why. Run again to go on with what is left"
            )

    def close(self, *, ours: bool) -> None:
        """Readers' manifests, whatever happened: what is committed is committed. The tables belong to the
        run that holds the lease; ``ours`` says whether that is still this one."""
        self._units.close(merge=ours)
        self._failures.close(merge=ours)
        if ours:
            merge_rows(self._store, RUNS)
            compact(self._store)
