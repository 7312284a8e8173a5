"""Sources that mean harm, are damaged or change under way: each gets its answer, and so do its neighbours."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray

from pipeline import graph
from pipeline.events import Event
from pipeline.graph import run_job
from pipeline.settings import ConsistencySettings, JobSettings
from pipeline.steps.enhance import EnhanceUnits
from pipeline.video.measured import measure
from pipeline.work import UnitTask
from tests.faults import test_sources
from tests.faults.conftest import Site
from tests.faults.hostile import FRAMES, SOURCES, damaged, write_sources
from tests.pipeline.graph.jobs import run
from tests.pipeline.video.media import Clip, make_clip

CLIP = Clip(pts=range(0, FRAMES * 512, 512), width=32, height=24)
DAMAGED = 8
"""Seeds of damage for each container."""


def job_of(site: Site, sources: tuple[str, ...], output: Path) -> JobSettings:
    return dataclasses.replace(site.job("identity", output), source=sources)


def test_hostile_sources_get_their_codes_and_those_that_are_videos_are_published(
    site: Site, tmp_path: Path
) -> None:
    summary = run(job_of(site, tuple(write_sources(tmp_path / "in")), tmp_path / "out"))
    rows = {Path(row.video_uri).name: row for row in summary.rows}
    assert {name: row.code for name, row in rows.items()} == {n: s.code for n, s in SOURCES.items()}
    published = [row for row in rows.values() if row.status == "done"]
    assert {row.frames for row in published} == {FRAMES}
    assert len(list((tmp_path / "out" / "videos").iterdir())) == len(published) > 0
    assert all(row.error and row.stage for row in rows.values() if row.status == "quarantined")


def test_damage_at_random_is_refused_with_a_code_or_published_as_it_decodes(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for ending in ("ts", "mkv", "mp4"):
        clip = make_clip(
            tmp_path / f"whole.{ending}", Clip(pts=range(0, FRAMES * 512, 512), width=32, height=24)
        )
        for seed in range(DAMAGED):
            (tmp_path / "in" / f"{seed}.{ending}").write_bytes(damaged(Path(clip).read_bytes(), seed))
    summary = run(job_of(site, (str(tmp_path / "in" / "*"),), tmp_path / "out"))
    assert len(summary.rows) == 3 * DAMAGED
    for row in summary.rows:
        if row.status == "quarantined":
            assert row.code not in ("", "internal", "failed", "crashed"), row
            continue
        made = measure(row.output_uri)
        assert (made.frames, made.frames_md5, made.decode_errors) == (row.frames, row.frames_md5, 0), row
    assert 0 < summary.done < len(summary.rows)


def test_a_source_that_changes_after_it_was_indexed_is_refused_and_taken_up_by_the_next_run(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        make_clip(tmp_path / "in" / f"{name}.mp4", CLIP)
    other = Path(make_clip(tmp_path / "other.mp4", dataclasses.replace(CLIP, pts=CLIP.pts[:8])))
    job = job_of(site, (str(tmp_path / "in" / "*"),), tmp_path / "out")

    def replace_b(event: Event) -> None:
        if (event.kind, event.message) == ("phase", "frames"):
            os.replace(other, tmp_path / "in" / "b.mp4")

    first = run_job(job, on_event=replace_b)
    assert [(row.status, row.code) for row in first.rows] == [("done", ""), ("quarantined", "source_changed")]
    assert [row.frames for row in run(job).rows] == [FRAMES, 8]


class PoisonFrame(EnhanceUnits):
    """The model gives no numbers for the pictures of ``b.mp4``."""

    def _enhance(self, row: dict[str, Any]) -> Mapping[str, Any]:
        if not UnitTask.from_json(row["task"]).video.uri.endswith("b.mp4"):
            return super()._enhance(row)
        from pipeline import enhancer

        run_stage = enhancer.run_stage

        def poisoned(*arguments: Any, **options: Any) -> list[Any]:
            made = run_stage(*arguments, **options)
            return [dataclasses.replace(done, pictures=done.pictures * float("nan")) for done in made]

        with mock.patch.object(enhancer, "run_stage", poisoned):
            return super()._enhance(row)


@pytest.fixture
def travelling() -> Iterator[None]:
    """Workers do not have the tests: this module's classes travel by value."""
    ray.cloudpickle.register_pickle_by_value(test_sources)
    yield
    ray.cloudpickle.unregister_pickle_by_value(test_sources)


@pytest.mark.slow
@pytest.mark.usefixtures("travelling")
def test_a_frame_that_the_model_poisons_costs_its_video_and_no_other(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "EnhanceUnits", PoisonFrame)
    job = site.job("enhanced", tmp_path / "out")
    summary = run(dataclasses.replace(job, consistency=ConsistencySettings(sharing="none", knot_every=4)))
    answers = {Path(row.video_uri).name: (row.status, row.code) for row in summary.rows}
    assert answers == {
        "a.mp4": ("done", ""),
        "b.mp4": ("quarantined", "not_finite"),
        "none.mp4": ("quarantined", "not_a_video"),
    }
    assert [path.name for path in (tmp_path / "out" / "videos").iterdir()] == ["a.mp4"]
