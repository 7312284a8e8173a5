"""Failures are rows, and attempts are counted where a dying process cannot forget them."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.attempts import attempt_ledger, begin_attempt, drain
from pipeline.cluster import Cluster
from pipeline.errors import (
    ChunkError,
    MemoryFullError,
    ResultLostError,
    RunError,
    SourceError,
    StoreError,
)
from pipeline.failures import failure_of, stops_the_run
from pipeline.keys import code_digest
from pipeline.lease import Fence
from pipeline.settings import EncodeSettings, Limits, StorageSettings, VideoPolicy
from pipeline.steps.context import TaskContext
from pipeline.steps.guarded import guarded
from pipeline.store import Store

ROW = {"key": "k", "status": "ok", "failure": "", "seconds": 0.0, "attempts": 0, "node": ""}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


@pytest.fixture
def context(ray_here: Cluster, store: Store) -> Iterator[TaskContext]:
    with attempt_ledger("guarded", store, Fence(7), 3) as ledger:
        yield context_of(ledger)


def context_of(ledger: str) -> TaskContext:
    return TaskContext(
        "out", StorageSettings(), Limits(), VideoPolicy(), EncodeSettings(), ledger, code_digest()
    )


def failing(error: Exception) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        raise error

    return work


def test_success_adds_its_facts_and_the_count_of_attempts(context: TaskContext) -> None:
    row = guarded(dict(ROW), context, "step", lambda: {"answer": 42})
    assert (row["answer"], row["status"], row["attempts"]) == (42, "ok", 1)


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (SourceError("bad", code="no_frames"), "no_frames", False),
        (StoreError("gone"), "store", True),
        (ResultLostError("torn"), "result_lost", False),
        (MemoryFullError("too large"), "out_of_memory", True),
        (OSError(errno.ENOSPC, "no space"), "disk_full", True),
        (RuntimeError("a codec's mood"), "failed", True),
        (AttributeError("bug"), "internal", False),
    ],
)
def test_errors_become_failures_that_know_whether_retrying_helps(
    context: TaskContext, error: Exception, code: str, retry: bool
) -> None:
    row = guarded(dict(ROW), context, f"step {code}", failing(error))
    failure = json.loads(row["failure"])
    assert (row["status"], failure["code"], failure["retry"]) == ("failed", code, retry)
    told = (failure["stage"], failure["attempts"], failure["node"])
    assert told == (f"step {code}", 1, platform.node())


def test_a_full_disk_behind_an_encoders_complaint_is_not_held_against_the_video(context: TaskContext) -> None:
    refused = ChunkError("could not encode", code="encode_failed")
    refused.__cause__ = OSError(errno.ENOSPC, "no space left on device")
    row = guarded(dict(ROW), context, "encode", failing(refused))
    failure = failure_of(row)
    assert (failure.code, failure.retry) == ("disk_full", True)
    assert "free space in" in failure.message
    assert isinstance(stops_the_run(failure), RunError)


def test_a_unit_that_was_begun_too_often_is_given_up_without_being_tried(context: TaskContext) -> None:
    for _ in range(3):
        begin_attempt(context.ledger, "k/poison")
    tried = []
    row = guarded(dict(ROW), context, "poison", lambda: tried.append(1) or {})
    failure = json.loads(row["failure"])
    assert (failure["code"], failure["attempts"]) == ("crashed", 3)
    assert tried == []


def test_what_died_is_remembered_by_the_next_run_and_forgotten_on_request(
    ray_here: Cluster, store: Store
) -> None:
    with attempt_ledger("first", store, Fence(1), 3) as ledger:
        for _ in range(4):  # that the third one died is known when there should be a fourth
            begin_attempt(ledger, "k/poison")
        killed = {path: store.read(path) for path in store.list(".work/attempts")}
    assert len(killed) == 1
    # As a killed driver leaves it: nobody has closed the book.
    for path, book in killed.items():
        store.put(path, book)
    with attempt_ledger("second", store, Fence(2), 3) as ledger:
        row = guarded(dict(ROW), context_of(ledger), "poison", failing(AssertionError("must not run")))
        assert failure_of(row).code == "crashed"
    assert store.list(".work/attempts") == [".work/attempts/0000000002.json"]
    with attempt_ledger("third", store, Fence(3), 3, forget=True) as ledger:
        assert guarded(dict(ROW), context_of(ledger), "poison", dict)["status"] == "ok"
    with attempt_ledger("fourth", store, Fence(4), 3) as ledger:
        assert guarded(dict(ROW), context_of(ledger), "poison", dict)["attempts"] == 1


def test_a_draining_run_begins_nothing_and_finishes_what_it_has(context: TaskContext) -> None:
    drain(context.ledger)
    row = guarded(dict(ROW), context, "decode", failing(AssertionError("must not run")))
    assert failure_of(row).code == "draining"
    assert guarded(dict(ROW), context, "encode", dict, finishing=True)["status"] == "ok"


def test_a_failed_row_passes_through_untouched(context: TaskContext) -> None:
    row = {**ROW, "status": "failed", "failure": "{}"}
    assert guarded(row, context, "step", failing(AssertionError("must not run"))) is row


def test_a_worker_with_other_code_refuses_to_work(context: TaskContext) -> None:
    import dataclasses

    other = dataclasses.replace(context, code="0" * 64)
    row = guarded(dict(ROW), other, "step", failing(AssertionError("must not run")))
    assert json.loads(row["failure"])["code"] == "code_differs"
