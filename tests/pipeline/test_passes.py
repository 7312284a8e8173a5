"""Rows get their answers in the order that harms nobody: all together, then again, then suspects alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.books import Books
from pipeline.errors import StoreError
from pipeline.failures import APART
from pipeline.interruption import Interruption
from pipeline.journal import FAILURES, read_rows
from pipeline.lease import NO_LEASE
from pipeline.passes import Passes, by_key, start_row, unit_rows
from pipeline.store import Store
from pipeline.work import Failure, UnitTask, VideoRef

ATTEMPTS = 3


class HeldLease:
    def check(self) -> None:
        pass


@dataclass
class Workers:
    """Does rows as a cluster would; ``fate`` says how a row fails, or None."""

    fate: Callable[[dict[str, Any]], Failure | None]
    streams: list[list[str]] = field(default_factory=list)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> Workers:
        self.streams.append([row["key"] for row in rows])
        self._rows = rows
        return self

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            failure = self.fate(row)
            failed = {"status": "failed", "failure": json.dumps(asdict(failure))} if failure else {}
            yield {**row, **failed}


def ignore(event: object) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def books(store: Store) -> Books:
    return Books(store, "run", NO_LEASE, ignore, None)


@pytest.fixture
def passes(books: Books) -> Passes:
    return Passes(ATTEMPTS, books, HeldLease(), Interruption(0, ignore), ignore)  # type: ignore[arg-type]


def unit(key: str, uri: str) -> UnitTask:
    return UnitTask("chunk", key, VideoRef(uri, "digest", "index"), 0, 0, (0,))


def test_suspects_have_their_turn_one_at_a_time_when_all_else_is_done(passes: Passes) -> None:
    workers = Workers(
        lambda row: Failure(APART, "", False) if row["key"] > "b" and "apart" not in row else None
    )
    order: list[str] = []
    rows = [start_row(key, uri=key) for key in "dcba"]
    for row, units in passes.run("phase", rows, workers, before_apart=lambda: order.append("all else")):
        order.append(row["key"])
        assert units == []
    assert workers.streams == [["d", "c", "b", "a"], ["d"], ["c"]]
    assert order == ["b", "a", "all else", "d", "c"]


def test_a_failure_that_may_pass_is_tried_again_so_often_and_each_time_is_a_row(
    passes: Passes, books: Books, store: Store
) -> None:
    workers = Workers(lambda row: Failure("failed", "a mood", True, "index") if row["key"] == "a" else None)
    answers = list(passes.run("phase", [start_row(key, uri=key) for key in "ab"], workers))
    assert [row["status"] for row, _ in answers] == ["ok", "failed"]
    assert workers.streams == [["a", "b"], *[["a"]] * (ATTEMPTS - 1)]
    books.close(ours=True)
    assert [row.outcome for row in read_rows(store, FAILURES)] == ["retried", "quarantined"]


def test_a_failure_of_nobodys_ends_the_run_when_it_stays(passes: Passes) -> None:
    workers = Workers(lambda row: Failure("store", "s3://b: away", True, "encode"))
    with pytest.raises(StoreError, match="away"):
        list(passes.run("phase", [start_row("a", uri="a")], workers))
    assert len(workers.streams) == ATTEMPTS


@pytest.mark.parametrize("broken", [{"a.mp4"}, {"a.mp4", "b.mp4"}, {"c.mp4"}])
def test_a_unit_of_equal_videos_is_done_from_the_first_file_that_can_be_read(
    passes: Passes, books: Books, store: Store, broken: set[str]
) -> None:
    def missing(row: dict[str, Any]) -> Failure | None:
        uri = UnitTask.from_json(row["task"]).video.uri
        return Failure("missing", f"{uri} is gone", False, "decode") if uri in broken else None

    owners = by_key(unit("k", f"{name}.mp4") for name in "abc")
    shown = []
    passes = replace(passes, on_event=shown.append)
    answers = list(passes.run("phase", unit_rows(owners), Workers(missing), owners))
    read = sorted(broken - {"c.mp4"})
    assert [(row["status"], [u.video.uri for u in units]) for row, units in answers] == [
        *[("failed", [uri]) for uri in read],
        ("ok", [f"{name}.mp4" for name in "abc" if f"{name}.mp4" not in read]),
    ]
    assert [event.done for event in shown] == [0, 1], "one unit, whoever lent his file"
    books.close(ours=True)
    assert [row.video_uri for row in read_rows(store, FAILURES)] == read


def test_what_is_wrong_with_the_content_is_wrong_with_every_twin(
    passes: Passes, books: Books, store: Store
) -> None:
    owners = by_key(unit("k", f"{name}.mp4") for name in "ab")
    workers = Workers(lambda row: Failure("not_finite", "no numbers", False, "enhance"))
    ((row, units),) = passes.run("phase", unit_rows(owners), workers, owners)
    assert (row["status"], len(units), len(workers.streams)) == ("failed", 2, 1)
    books.close(ours=True)
    assert [row.video_uri for row in read_rows(store, FAILURES)] == ["a.mp4", "b.mp4"]
