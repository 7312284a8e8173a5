"""Attempts are counted where neither the process that works nor the run that began them can forget them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.attempts import LOST_LIMIT, AttemptBook, Record, known_attempts
from pipeline.keys import canonical_json
from pipeline.store import Store


def write_records(store: Store, token: int, records: dict[str, Record]) -> None:
    store.put(f".work/attempts/{token:010d}.json", canonical_json(records))


def next_run(book: AttemptBook, store: Store, token: int) -> AttemptBook:
    """The book of a run that follows one whose driver was killed."""
    write_records(store, token, book.kept())
    return AttemptBook(3, known_attempts(store))


def test_a_step_that_never_ends_is_tried_up_to_the_limit_and_then_given_up() -> None:
    book = AttemptBook(3)
    assert [book.begin("poison").number for _ in range(3)] == [1, 2, 3]
    for _ in range(2):
        given_up = book.begin("poison")
        assert (given_up.verdict, given_up.number) == ("crashed", 3)
    assert book.begin("neighbour").verdict == "go"


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_step_that_kills_is_tried_as_often_in_all_when_the_driver_is_killed_in_between(
    tmp_path: Path, killed_after: int
) -> None:
    book, store, tries = AttemptBook(3), Store(str(tmp_path)), 0
    for _ in range(killed_after):
        assert book.begin("poison").verdict == "go"
        tries += 1
    book = next_run(book, store, 1)
    while book.begin("poison").verdict == "go":
        tries += 1
    assert tries == 3
    book = next_run(book, store, 2)
    assert book.begin("poison").verdict == "crashed"


def test_a_bystander_of_many_killed_runs_is_not_given_up_until_it_looks_like_the_culprit(
    tmp_path: Path,
) -> None:
    book, store = AttemptBook(3), Store(str(tmp_path))
    for run in range(LOST_LIMIT):
        assert book.begin("bystander").verdict == "go"
        book = next_run(book, store, run)
    assert book.begin("bystander").verdict == "crashed"


def test_success_clears_what_was_held_against_a_step_and_failures_are_no_deaths() -> None:
    book = AttemptBook(2)
    book.begin("step")
    assert book.begin("step").number == 2
    book.end("step", well=True)
    assert book.kept() == {}
    for _ in range(5):
        assert book.begin("step").verdict == "go"
        book.end("step", well=False)
    assert book.kept() == {}


def test_a_run_that_ends_in_order_leaves_nothing_against_what_was_in_flight(tmp_path: Path) -> None:
    book = AttemptBook(3)
    book.begin("in flight")
    book.begin("died once")
    book.begin("died once")
    book.close()
    assert set(book.kept()) == {"died once"}
    again = next_run(book, Store(str(tmp_path)), 1)
    assert again.kept()["died once"].deaths == 1
    assert again.kept()["died once"].lost == 0


def test_a_call_that_is_repeated_because_its_answer_was_lost_begins_nothing_new() -> None:
    book = AttemptBook(2)
    for _ in range(3):
        assert book.begin("step", by="one call").number == 1
    assert book.begin("step", by="another").number == 2
    assert book.begin("step", by="a third").verdict == "crashed"


def test_a_draining_run_begins_nothing_new_and_finishes_what_was_begun() -> None:
    book = AttemptBook(3)
    book.draining = True
    assert book.begin("decode").verdict == "draining"
    assert book.begin("encode", finishing=True).verdict == "go"
    assert set(book.kept()) == {"encode"}


def test_a_damaged_record_holds_nothing_against_anybody(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put(".work/attempts/0000000001.json", b'{"step": {"begun": 1')
    assert known_attempts(store) == {}
