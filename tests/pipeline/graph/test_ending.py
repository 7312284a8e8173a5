"""A run that is told to end in the middle of its chunks."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.events import Event
from pipeline.graph import run_job
from pipeline.manifest import read_video_rows
from pipeline.settings import ConsistencySettings
from pipeline.store import Store
from tests.pipeline.graph.jobs import identity_job, run
from tests.pipeline.video.media import Clip, make_clip

pytestmark = pytest.mark.usefixtures("ray_here")

CHUNKS = 30


def test_a_signal_ends_a_run_without_a_half_published_video_and_the_rest_is_done_by_the_next(
    tmp_path: Path,
) -> None:
    source = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 2 * CHUNKS * 512, 512)))
    job = replace(
        identity_job(source, tmp_path / "out"),
        consistency=ConsistencySettings(knot_every=2, knots_per_chunk=1),
    )
    job = replace(job, cluster=replace(job.cluster, drain_seconds=300.0))
    events: list[Event] = []

    def terminate(event: Event) -> None:
        events.append(event)
        if (event.kind, event.message, event.done) == ("chunk", "frames", 1):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_job(job, on_event=terminate)
    assert [event for event in events if "what is in flight is finished" in event.message]
    store = Store(job.output)
    assert store.list("videos") == []
    assert read_video_rows(store) == [], "nobody is quarantined for it"
    (book,) = store.list(".work/attempts")
    assert json.loads(store.read(book)) == {}, "nothing is held against what was in flight"
    committed = [path for path in store.list(".work") if path.endswith(".mkv")]
    assert 1 <= len(committed) < CHUNKS

    resumed = run(job)
    assert (resumed.done, resumed.chunks_done_before) == (1, len(committed))
