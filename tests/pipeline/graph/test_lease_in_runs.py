"""Two runs of one job: the second waits or is refused, and one that was overtaken publishes nothing."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import ray

import pipeline.graph
from pipeline.errors import SpecError, StoreError
from pipeline.events import Event
from pipeline.graph import run_job
from pipeline.keys import canonical_json
from pipeline.lease import Holder, LeaseHeldError, LeaseTimes, hold_lease
from pipeline.manifest import CHUNKS_PARQUET, VIDEOS_PARQUET, read_chunk_rows, read_video_rows
from pipeline.settings import ClusterSettings
from pipeline.store import Store
from tests.pipeline.graph.jobs import identity_job, run


def test_a_second_run_is_refused_before_any_work_and_names_the_first(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = functools.partial(hold_lease, times=LeaseTimes(wait=0.2, poll=0.05))
    monkeypatch.setattr(pipeline.graph, "hold_lease", impatient)
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    store, events = Store(job.output), []
    with hold_lease(store, "the-first"):
        with pytest.raises(LeaseHeldError, match=r"run the-first on .* has been writing here since"):
            run(job, events)
        assert events == []
        assert {path.split("/")[1] for path in store.list("") if not path.startswith(".work")} == {"leases"}


def test_a_run_that_finds_no_cluster_takes_no_lease(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # of this folder's tests there is one
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    store = Store(job.output)
    with pytest.raises(SpecError, match=r"nothing answers at 127\.0\.0\.1:9"):
        run(replace(job, cluster=ClusterSettings(address="127.0.0.1:9")))
    assert [path for path in store.list("") if not path.startswith(".work")] == []


@pytest.mark.usefixtures("ray_here")
def test_a_run_that_is_overtaken_stops_and_leaves_publication_to_the_later_one(
    sources: Path, tmp_path: Path
) -> None:
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    store = Store(job.output)
    overtaken = []

    def overtake(event: Event) -> None:
        if event.kind == "chunk" and event.message == "frames" and not overtaken:
            overtaken.append(event)
            released = Holder("later", "node", 1, "elsewhere", "", released=True)
            assert store.put_new("manifests/leases/0000000002.json", canonical_json(released))

    with pytest.raises(StoreError, match="another run has taken this output over"):
        run_job(job, on_event=overtake)
    assert overtaken
    assert store.list("videos") == []
    assert read_video_rows(store) == []
    assert not store.exists(CHUNKS_PARQUET), "tables belong to the run that holds the lease"
    assert not store.exists(VIDEOS_PARQUET)
    committed = read_chunk_rows(store)
    assert committed
    later = run(job)
    assert later.done == 1
    assert later.chunks_done_before == later.chunks, "what the first committed was not lost"
    assert read_video_rows(store)[0].token == 3
    assert read_chunk_rows(store) == committed
