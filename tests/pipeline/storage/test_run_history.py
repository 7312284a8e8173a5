"""A row per run, however it ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.books import Books
from pipeline.errors import RunError, SpecError, StoreError
from pipeline.journal import RUNS, merge_rows
from pipeline.lease import NO_LEASE
from pipeline.manifest import VideoRow
from pipeline.run_ending import EXIT_CODES
from pipeline.run_history import read_runs, recorded
from pipeline.run_record import RunSummary
from pipeline.store import Store
from tests.support.mortal_store import MortalStore, ProcessDiedError


def summary(done: int, quarantined: int, already_done: int) -> RunSummary:
    return RunSummary("r1", 9, done, quarantined, already_done, 0, 0, 1.0, ())


def ended(store: Store, run_id: str) -> None:
    """A run over no videos."""
    with recorded(store, run_id, "nightly", 0) as log:
        log.summary = summary(0, 0, 0)


@pytest.mark.parametrize(("quarantined", "status"), [(0, "done"), (2, "quarantined")])
def test_a_run_that_comes_to_its_end_says_what_it_published(
    store: Store, quarantined: int, status: str
) -> None:
    before = time.time()
    with recorded(store, "r1", "nightly", 9) as log:
        log.summary = summary(7, quarantined, 3)
    (row,) = read_runs(store)
    assert (row.run_id, row.name, row.status, row.exit_code) == (
        "r1",
        "nightly",
        status,
        EXIT_CODES[row.status],
    )
    assert (row.videos, row.published, row.already_done) == (9, 4, 3)
    assert (row.quarantined, row.left) == (quarantined, 2 - quarantined)
    assert before <= row.begun + 0.001
    assert 0.0 <= row.seconds < 60.0
    assert row.error == ""
    assert row.version


@pytest.mark.parametrize(
    ("error", "status", "code", "told"),
    [
        (RunError("a disk is full"), "failed", 1, "a disk is full"),
        (StoreError("storage is away"), "failed", 1, "storage is away"),
        (SpecError("no encoder"), "refused", 2, "no encoder"),
        (KeyboardInterrupt(), "interrupted", 130, "interrupted"),
        (ValueError("with details"), "failed", 1, "unexpected ValueError"),
    ],
)
def test_a_run_that_is_cut_short_says_what_was_done_and_is_left(
    store: Store, error: BaseException, status: str, code: int, told: str
) -> None:
    books = Books(store, "r1", NO_LEASE, lambda event: None, None)
    books.already_done = 3
    books.note_published(VideoRow("/in/a.mp4", "k", "done"))
    books.refuse([VideoRow("/in/b.mp4", "k", "quarantined", code="damaged")])

    def run() -> None:
        with recorded(store, "r1", "nightly", 9) as log:
            log.books = books
            raise error

    with pytest.raises(type(error)):
        run()
    (row,) = read_runs(store)
    assert (row.status, row.exit_code, row.error) == (status, code, told)
    assert (row.published, row.already_done, row.quarantined, row.left) == (1, 3, 1, 4)


@pytest.mark.parametrize("error", [RunError("no cluster"), StoreError("held"), SpecError("no encoder")])
def test_a_run_that_never_had_its_turn_leaves_nothing(store: Store, error: Exception) -> None:
    with pytest.raises(type(error)), recorded(store, "r1", "nightly", 9):
        raise error
    assert store.list("") == []


def test_a_run_that_is_refused_before_it_did_anything_leaves_nothing(store: Store) -> None:
    def run() -> None:
        with recorded(store, "r1", "nightly", 9) as log:
            log.books = Books(store, "r1", NO_LEASE, lambda event: None, None)
            raise SpecError("no encoder")

    with pytest.raises(SpecError):
        run()
    assert store.list("") == []


def test_rows_of_earlier_runs_are_merged_and_stay_in_order(store: Store) -> None:
    for number in (2, 1, 3):
        ended(store, f"r{number}")
        merge_rows(store, RUNS)
    assert store.list("manifests/runs") == []
    ended(store, "r0")
    assert [row.run_id for row in read_runs(store)] == ["r2", "r1", "r3", "r0"]


def test_the_next_run_that_holds_the_output_merges(store: Store) -> None:
    ended(store, "r1")
    books = Books(store, "r2", NO_LEASE, lambda event: None, None)
    books.close(ours=False)
    assert len(store.list("manifests/runs")) == 1
    books.close(ours=True)
    assert store.list("manifests/runs") == []
    assert store.exists("manifests/runs.parquet")


def test_storage_that_is_away_in_the_end_hides_no_error(tmp_path: Path) -> None:
    gone = Store(str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("")

    def run() -> None:
        with recorded(gone, "r1", "nightly", 1) as log:
            log.books = Books(gone, "r1", NO_LEASE, lambda event: None, None)
            raise RunError("the real reason")

    with pytest.raises(RunError, match="the real reason"):
        run()


def test_a_killed_run_leaves_no_row(store: Store) -> None:
    with pytest.raises(ProcessDiedError):
        ended(MortalStore(store, 0), "r1")
    assert read_runs(store) == []
