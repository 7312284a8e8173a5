"""What the soak rests on: differences are seen, and so is work that is done twice."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.bench.outcome import differences, read_outcome, untrue_rows
from jobs.bench.soak_catalog import JOBS, job_of, write_catalog
from jobs.bench.soak_kills import BLOWS, STARTING, STEPS, draw_kill, steps_at_work
from jobs.bench.work_log import Seen, WorkLog, count_work
from jobs.spec import parse_spec
from pipeline.journal import CHUNKS, merge_rows
from pipeline.manifest import ChunkRow, compact, create_done_row, read_video_rows, withdraw_rows
from pipeline.store import Store
from tests.jobs.media import published_store, write_clip


def finished(root: Path) -> Store:
    """A finished job of one video, of two chunks."""
    store = published_store(root)
    rows = [
        ChunkRow(f"k{n}", "a.mp4", "chunk", 0, n, 6 * n, 6 * n + 6, 6, 0.5 + n, 1, "node") for n in (0, 1)
    ]
    merge_rows(store, CHUNKS, rows)
    compact(store)
    return store


def rewrite(store: Store, **changes: object) -> None:
    """Replace the video's row."""
    (row,) = read_video_rows(store)
    withdraw_rows(store, row.video_uri, row.token)
    create_done_row(store, dataclasses.replace(row, **changes))  # type: ignore[arg-type]
    compact(store)


def lose_a_unit(store: Store) -> None:
    store.delete(CHUNKS.path)
    merge_rows(store, CHUNKS, [ChunkRow("k0", "a.mp4", "chunk", 0, 0, 0, 6, 6, 0.5, 1, "node")])


def forget_the_table(store: Store) -> None:
    (row,) = read_video_rows(store)
    withdraw_rows(store, row.video_uri, row.token)


CHANGES: dict[str, Callable[[Store], object]] = {
    "file .* is lost": lambda store: store.delete("videos/a.mp4"),
    "file .* differs": lambda store: write_clip(Path(store.uri("videos/a.mp4")), shade=41),
    "file .* should not be there": lambda store: write_clip(Path(store.uri("videos/b.mp4"))),
    "video .* differs": lambda store: rewrite(store, frames=11),
    "unit k1 of a.mp4 is lost": lose_a_unit,
    "row object .* is lost": forget_the_table,
}


@pytest.mark.parametrize("words", CHANGES)
def test_every_kind_of_difference_is_seen(words: str, tmp_path: Path) -> None:
    store = finished(tmp_path / "out")
    calm = read_outcome(store)
    assert differences(calm, read_outcome(store)) == []
    rewrite(store, token=7)  # who wrote it does not matter
    assert differences(calm, read_outcome(store)) == []
    CHANGES[words](store)
    found = differences(calm, read_outcome(store))
    assert any(re.match(words, line) for line in found), found


def test_a_row_that_speaks_of_other_bytes_is_untrue(tmp_path: Path) -> None:
    store = finished(tmp_path / "out")
    assert untrue_rows(store) == []
    write_clip(Path(store.uri("videos/a.mp4")), shade=41)
    assert len(untrue_rows(store)) == 1
    store.delete("videos/a.mp4")
    assert len(untrue_rows(store)) == 1
    rewrite(store, status="quarantined")
    assert untrue_rows(store) == []


def computed(key: str, pid: int, *, found: bool = False, ends: bool = True) -> list[Seen]:
    """An attempt at a chunk, up to its commit or to its death before."""
    begun = [Seen("begin", "transcode", key, pid)]
    if not ends:
        return begun
    stored = [Seen("begin", "store", key, pid, found), Seen("end", "store", key, pid)]
    return [*begun, *stored, Seen("end", "transcode", key, pid)]


def test_work_that_is_lost_done_again_or_done_by_two_at_once_is_told_apart(tmp_path: Path) -> None:
    calm = [*computed("a", 1), *computed("b", 2)]
    assert count_work(calm) == {
        "chunks": 2, "lost": 0, "results": 2, "again": 0, "beside": 0, "published": 0,
    }  # fmt: skip
    lost = count_work([*computed("a", 1, ends=False), *calm])
    assert (lost["lost"], lost["again"], lost["beside"]) == (1, 0, 0)
    again = count_work([*calm, *computed("a", 3, found=True)])
    assert (again["again"], again["beside"]) == (1, 0)
    first, second = computed("a", 1), computed("a", 2, found=True)
    beside = count_work([first[0], second[0], *first[1:], *second[1:]])
    assert (beside["again"], beside["beside"]) == (0, 1)
    skipped = Seen("begin", "transcode", "a", 3, found=True)
    assert count_work([*calm, skipped])["lost"] == 0
    log = WorkLog(tmp_path / "log")
    assert (log.size, log.read()) == (0, [])
    for one in calm:
        log(one)
    assert log.read() == calm


def test_the_steps_at_work_are_those_that_began_and_did_not_end_in_processes_that_live() -> None:
    inside = computed("a", 1)[:2]  # in the middle of a commit
    over = computed("b", 2)
    dead = computed("c", 3, ends=False)
    assert steps_at_work([*inside, *over, *dead], lambda process: process != 3) == {"store"}
    assert steps_at_work([*inside, *over, *dead], lambda process: True) == {"store", "transcode"}


@pytest.mark.parametrize("job", JOBS)
def test_kills_come_in_all_kinds_at_all_steps_and_are_the_same_for_one_seed(job: str) -> None:
    draws = random.Random("0/1")
    kills = [draw_kill(job, draws) for _ in range(200)]
    assert {kill.blow for kill in kills} == set(BLOWS)
    assert {kill.aim for kill in kills} == {STARTING, *STEPS[job]}
    assert {kill.worker is None for kill in kills} == {True, False}
    again = random.Random("0/1")
    assert [draw_kill(job, again) for _ in kills] == kills


def test_a_log_is_read_from_a_place_on_and_without_a_line_that_is_being_written(tmp_path: Path) -> None:
    log = WorkLog(tmp_path / "log")
    first, second = Seen("begin", "index", "a", 1), Seen("end", "index", "a", 1)
    log(first)
    at = log.size
    log(second)
    with log.path.open("ab") as file:
        file.write(b'{"moment": "be')
    assert (log.read(), log.read(at)) == ([first, second], [second])


def test_the_catalog_has_copies_and_bad_files_and_its_jobs_are_valid(tmp_path: Path) -> None:
    write_catalog(tmp_path / "in", 8, seed=0)
    files = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    assert len(files) == 8
    assert files["00.mp4"] == files["01.mp4"] != files["03.mp4"]
    assert files["bad-00.mp4"] == b""
    steps = [len(parse_spec(job_of(name, tmp_path, tmp_path / "out")).to_settings().enhance) for name in JOBS]
    assert steps == [0, 1]
