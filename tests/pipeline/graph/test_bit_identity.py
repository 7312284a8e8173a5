"""The promise of the whole design: the frames of a job do not depend on who computed them, or when.

Two scenes, knots and anchors, the embedded model; every run through Ray, undisturbed or not.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.processes import workers_below
from pipeline import graph
from pipeline.cluster import Cluster
from pipeline.events import Event
from pipeline.graph import RunSummary, run_job
from pipeline.manifest import ChunkRow, read_chunk_rows
from pipeline.settings import ClusterSettings, ConsistencySettings, JobSettings
from pipeline.store import Store
from tests.pipeline.graph.jobs import run, stylize_job
from tests.pipeline.video.media import Clip, make_clip

pytestmark = pytest.mark.usefixtures("ray_here")

FRAMES = 26
CUT = 14


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> JobSettings:
    folder = tmp_path_factory.mktemp("bits")
    clip = Clip(pts=range(0, FRAMES * 512, 512), width=32, height=24, cuts=(CUT,))
    source = make_clip(folder / "a.mp4", clip)
    item = stylize_job(source, folder, folder / "style.png").enhance[0]
    item["stylize"]["method"]["steps"] = 3
    return replace(
        stylize_job(source, folder / "calm", folder / "style.png"),
        enhance=(item,),
        consistency=ConsistencySettings(knots="adaptive", knot_every=4, anchors=2),
    )


@pytest.fixture(scope="module")
def calm(job: JobSettings, ray_here: Cluster) -> RunSummary:
    """One actor, one chunk per scene, in the order of the plan."""
    return run(how(job, "calm", actors=1, knots_per_chunk=8))


def how(job: JobSettings, output: str, *, actors: int, knots_per_chunk: int) -> JobSettings:
    return replace(
        job,
        output=str(Path(job.output).parent / output),
        cluster=ClusterSettings(actors=(actors, actors), address="local"),
        consistency=replace(job.consistency, knots_per_chunk=knots_per_chunk),
    )


def shuffle_rows(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Every phase takes its units in another order."""
    in_order = graph._one_row_per_block

    def shuffled(rows: list[dict[str, Any]]) -> Any:
        rows = list(rows)
        random.Random(seed).shuffle(rows)
        return in_order(rows)

    monkeypatch.setattr(graph, "_one_row_per_block", shuffled)


def kill_an_actor(event: Event) -> None:
    """When the first chunk is done: the youngest, since those of earlier phases may linger."""
    if (event.kind, event.message, event.done) == ("chunk", "frames", 1):
        victims = workers_below(os.getpid(), "EnhanceUnits")
        assert victims, "no enhance actor was found"
        os.kill(max(victims), signal.SIGKILL)


def rows_of(job: JobSettings, level: str) -> list[ChunkRow]:
    return [row for row in read_chunk_rows(Store(job.output, job.storage)) if row.level == level]


def test_the_clip_of_these_tests_has_two_scenes_with_anchors_and_knots(
    job: JobSettings, calm: RunSummary
) -> None:
    assert (calm.done, calm.chunks, calm.rows[0].frames) == (1, 2, FRAMES)
    calmly = how(job, "calm", actors=1, knots_per_chunk=8)
    anchors, knots, chunks = (rows_of(calmly, level) for level in ("anchors", "knot", "chunk"))
    assert [(row.first, row.last) for row in chunks] == [(0, CUT), (CUT, FRAMES)]
    assert [len(row.metrics["anchors"]) for row in anchors] == [2, 2]
    assert len(knots) >= 4
    assert len({row.key for row in (*anchors, *knots, *chunks)}) == 4 + len(knots)


def test_two_actors_one_killed_single_chunks_in_another_order_give_the_same_frames(
    job: JobSettings, calm: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffle_rows(monkeypatch, 1)
    other = how(job, "two", actors=2, knots_per_chunk=1)
    found = run_job(other, on_event=kill_an_actor)
    assert found.chunks > calm.chunks
    assert found.rows[0].frames_md5 == calm.rows[0].frames_md5
    # The pieces have other borders, the references under them are the very same results.
    one = how(job, "calm", actors=1, knots_per_chunk=8)
    for level in ("anchors", "knot"):
        assert {row.key for row in rows_of(other, level)} == {row.key for row in rows_of(one, level)}


class InterruptionError(Exception):
    pass


@pytest.mark.slow
def test_three_actors_an_interruption_among_the_knots_and_a_resumption_give_the_same_frames(
    job: JobSettings, calm: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []

    def interrupt(event: Event) -> None:
        if event.message == "knots":
            groups.append(event.total)
        if (event.kind, event.message) == ("chunk", "knots"):
            raise InterruptionError

    shuffle_rows(monkeypatch, 2)
    other = how(job, "three", actors=3, knots_per_chunk=2)
    with pytest.raises(InterruptionError):
        run_job(other, on_event=interrupt)
    assert len(rows_of(other, "anchors")) == 2
    assert rows_of(other, "chunk") == []

    events: list[Event] = []
    resumed = run(other, events)
    assert resumed.rows[0].frames_md5 == calm.rows[0].frames_md5
    assert not [event for event in events if event.message == "anchors"]
    # At least the group whose end was heard of is committed; others may have ended unheard.
    again = [event.total for event in events if event.message == "knots"] or [0]
    assert again[0] < groups[0]
