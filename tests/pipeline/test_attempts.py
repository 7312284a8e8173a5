"""Attempts are counted where neither the process that works nor the run that began them can forget them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.attempt_book import LOST_LIMIT, AttemptBook, Record
from pipeline.attempts import known_attempts
from pipeline.keys import canonical_json
from pipeline.store import Store

LIMIT = 3
HOME = "driver's"


def write_records(store: Store, token: int, records: dict[str, Record]) -> None:
    store.put(f".work/attempts/{token:010d}.json", canonical_json(records))


def next_run(book: AttemptBook, store: Store, token: int) -> AttemptBook:
    """The book of a run that follows one whose driver was killed."""
    write_records(store, token, book.kept())
    return AttemptBook(LIMIT, known_attempts(store), HOME)


def test_a_step_that_never_ends_is_tried_up_to_the_limit_and_then_given_up() -> None:
    book = AttemptBook(LIMIT)
    assert [book.begin("poison").number for _ in range(3)] == [1, 2, 3]
    for _ in range(2):
        given_up = book.begin("poison")
        assert (given_up.verdict, given_up.number) == ("crashed", 3)
    assert book.begin("neighbour").verdict == "go"


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_step_that_kills_its_process_is_stopped_although_the_driver_is_killed_in_between(
    tmp_path: Path, killed_after: int
) -> None:
    book, store, tries = AttemptBook(LIMIT, home=HOME), Store(str(tmp_path)), 0
    for _ in range(killed_after):
        assert book.begin("poison", node="gpu").verdict == "go"
        tries += 1
    book = next_run(book, store, 1)
    while book.begin("poison", node="gpu").verdict == "go":
        tries += 1
    assert tries == 4, "the attempt that the driver's death cut short is nobody's"
    book = next_run(book, store, 2)
    assert book.begin("poison").verdict == "crashed"


def test_a_preemption_and_two_killed_drivers_are_not_held_against_a_step_that_was_there(
    tmp_path: Path,
) -> None:
    book, store = AttemptBook(LIMIT, home=HOME), Store(str(tmp_path))
    book.begin("chunk", node="spot 1")
    assert book.begin("chunk", node="spot 2", gone={"spot 1"}).verdict == "go"
    for run in range(2):
        book = next_run(book, store, run)
        assert book.begin("chunk", node="spot 3").verdict == "go"


def test_machines_that_are_preempted_again_and_again_quarantine_nobody_in_company(tmp_path: Path) -> None:
    book = AttemptBook(LIMIT, home=HOME)
    for n in range(LIMIT):
        gone = {f"spot {n - 1}"}
        assert book.begin("chunk", node=f"spot {n}", gone=gone).verdict == "go"
        assert book.begin("neighbour", node=f"spot {n}", gone=gone).verdict == "go"
    last = {f"spot {LIMIT - 1}"}
    for step in ("chunk", "neighbour"):
        assert book.begin(step, node="new", gone=last).verdict == "apart"
        assert book.begin(step, node="new", apart=True).verdict == "go"
        book.end(step, well=True)
    assert book.kept() == {}


def test_a_process_that_dies_seconds_before_its_machine_died_with_it() -> None:
    book = AttemptBook(1)
    book.begin("chunk", node="spot")
    assert book.begin("chunk", node="new").verdict == "crashed", "while the node lives"
    assert book.nodes_of("chunk") == {"spot"}
    assert book.begin("chunk", node="new", gone={"spot"}, apart=True).verdict == "go"


def test_deaths_of_an_earlier_run_stand_although_its_nodes_have_other_names_now(tmp_path: Path) -> None:
    book, store = AttemptBook(LIMIT, home=HOME), Store(str(tmp_path))
    for _ in range(LIMIT):
        book.begin("poison", node="gpu")
    assert book.begin("poison", node="gpu").verdict == "crashed"
    book = next_run(book, store, 1)
    assert book.nodes_of("poison") == set()
    assert book.begin("poison", node="new", gone={"gpu"}).verdict == "crashed"


@pytest.mark.parametrize("in_company", [0, LIMIT])
def test_a_step_that_takes_the_driver_with_it_is_stopped_and_bystanders_are_done(
    tmp_path: Path, in_company: int
) -> None:
    book, store, tries = AttemptBook(LIMIT, home=HOME), Store(str(tmp_path)), 0
    for run in range(in_company):
        assert book.begin("bystander", node=HOME).verdict == "go"
        assert book.begin("poison", node=HOME).verdict == "go"
        tries += 1
        book = next_run(book, store, run)
    if in_company:
        assert {book.begin(step, node=HOME).verdict for step in ("bystander", "poison")} == {"apart"}
        assert book.begin("bystander", node=HOME, apart=True).verdict == "go"
        book.end("bystander", well=True)
    while book.begin("poison", node=HOME, apart=True).verdict == "go":
        tries += 1
        book = next_run(book, store, tries)
    assert tries == LOST_LIMIT
    assert book.begin("poison", node=HOME).verdict == "crashed"


def test_no_number_of_killed_drivers_is_held_against_what_was_at_work_on_another_machine(
    tmp_path: Path,
) -> None:
    book, store = AttemptBook(LIMIT, home=HOME), Store(str(tmp_path))
    for run in range(2 * LOST_LIMIT):
        assert book.begin("chunk", node="gpu").verdict == "go"
        book = next_run(book, store, run)
    assert book.kept() == {}


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
    book = AttemptBook(LIMIT)
    book.begin("in flight")
    book.begin("died once")
    book.begin("died once")
    book.close()
    assert set(book.kept()) == {"died once"}
    again = next_run(book, Store(str(tmp_path)), 1)
    assert again.kept()["died once"] == Record(begun=2, deaths=1, company=True, at_home=True)


def test_a_call_that_is_repeated_because_its_answer_was_lost_begins_nothing_new() -> None:
    book = AttemptBook(2)
    for _ in range(3):
        assert book.begin("step", by="one call").number == 1
    assert book.begin("step", by="another").number == 2
    assert book.begin("step", by="a third").verdict == "crashed"


def test_a_draining_run_begins_nothing_new_and_finishes_what_was_begun() -> None:
    book = AttemptBook(LIMIT)
    book.draining = True
    assert book.begin("decode").verdict == "draining"
    assert book.begin("encode", finishing=True).verdict == "go"
    assert set(book.kept()) == {"encode"}


def test_a_damaged_record_holds_nothing_against_anybody(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put(".work/attempts/0000000001.json", b'{"step": {"begun": 1')
    assert known_attempts(store) == {}
