"""Failures are rows, and attempts are counted where a dying process cannot forget them."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.cluster import Cluster, attempt_ledger
from pipeline.errors import SourceError, StoreError
from pipeline.keys import code_digest
from pipeline.settings import EncodeSettings, Limits, StorageSettings, VideoPolicy
from pipeline.tasks import TaskContext, guarded

ROW = {"key": "k", "status": "ok", "failure": "", "seconds": 0.0, "attempts": 0, "node": ""}


@pytest.fixture
def context(ray_here: Cluster) -> Iterator[TaskContext]:
    with attempt_ledger("guarded") as ledger:
        yield TaskContext(
            "out", StorageSettings(), Limits(), VideoPolicy(), EncodeSettings(), ledger, 3, code_digest()
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
        (MemoryError("out"), "failed", True),
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


def test_a_unit_that_was_begun_too_often_is_given_up_without_being_tried(context: TaskContext) -> None:
    for _ in range(3):
        guarded(dict(ROW), context, "poison", failing(MemoryError()))
    tried = []
    row = guarded(dict(ROW), context, "poison", lambda: tried.append(1) or {})
    assert json.loads(row["failure"])["code"] == "crashed"
    assert tried == []


def test_a_failed_row_passes_through_untouched(context: TaskContext) -> None:
    row = {**ROW, "status": "failed", "failure": "{}"}
    assert guarded(row, context, "step", failing(AssertionError("must not run"))) is row


def test_a_worker_with_other_code_refuses_to_work(context: TaskContext) -> None:
    import dataclasses

    other = dataclasses.replace(context, code="0" * 64)
    row = guarded(dict(ROW), other, "step", failing(AssertionError("must not run")))
    assert json.loads(row["failure"])["code"] == "code_differs"
