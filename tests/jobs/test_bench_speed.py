"""Benchmarks of whole jobs: their catalogs are what jobs see, and their ratios mean what they say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from jobs.bench.planning_catalog import entries_of, finish_catalog, job_over, write_probed_catalog
from jobs.bench.unit_times import Spell, SpellLog, span, steady_use
from jobs.bench.video_memory import peak_kib
from pipeline.job_keys import JobKeys
from pipeline.job_plan import plan_job
from pipeline.model_files import weights_digest
from pipeline.settled import settled_videos
from pipeline.source_cache import SourceCache
from pipeline.store import Store

VIDEOS, FRAMES = 3, 40


def test_a_probed_catalog_is_planned_in_full_and_nothing_of_it_is_done(tmp_path: Path) -> None:
    settings = job_over(tmp_path / "in", tmp_path / "out").to_settings()
    write_probed_catalog(tmp_path / "in", VIDEOS, FRAMES, settings)
    plan = plan_job(settings)
    assert (plan.videos, plan.frames, plan.chunks_done, plan.rejected) == (VIDEOS, VIDEOS * FRAMES, 0, ())
    # Every source has bytes of its own, or the catalog would be one video under many names.
    digests = {path.read_bytes()[-8:] for path in (tmp_path / "in").glob("*.mp4")}
    assert len(digests) == VIDEOS


def test_a_finished_catalog_is_settled_until_a_source_changes(tmp_path: Path) -> None:
    settings = job_over(tmp_path / "in", tmp_path / "out").to_settings()
    write_probed_catalog(tmp_path / "in", VIDEOS, FRAMES, settings)
    sources = SourceCache(str(tmp_path / "cache"), settings.storage)
    finish_catalog(settings, sources)
    keys = JobKeys(settings, weights_digest(settings), "cpu")
    store, entries = Store(settings.output, settings.storage), entries_of(settings)
    assert set(settled_videos(entries, [keys], store, sources)) == {entry.uri for entry in entries}
    with open(entries[0].uri, "ab") as file:
        file.write(b"more")
    assert set(settled_videos(entries, [keys], store, sources)) == {entry.uri for entry in entries[1:]}


def test_idle_time_between_units_lowers_the_steady_use() -> None:
    # Two actors; the first waits one second of the four that both are up.
    spells = [
        Spell(1, "chunk", 4, 0.0, 2.0), Spell(1, "chunk", 4, 3.0, 5.0),
        Spell(2, "chunk", 4, 1.0, 5.0), Spell(2, "chunk", 4, 5.0, 9.0),
    ]  # fmt: skip
    assert steady_use(spells) == pytest.approx((1 + 2 + 4) / (2 * 4))
    assert span(spells) == 9.0


def test_actors_that_were_never_up_together_have_no_steady_use() -> None:
    spells = [Spell(1, "chunk", 4, 0.0, 1.0), Spell(2, "chunk", 4, 2.0, 3.0)]
    assert math.isnan(steady_use(spells))


def test_spells_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    log = SpellLog(tmp_path / "spells")
    told = [Spell(7, "anchors", 2, 0.25, 0.5), Spell(8, "chunk", 4, 0.5, 1.0)]
    for spell in told:
        log(spell)
    assert log.read() == told


def test_the_peak_of_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError):
        peak_kib(2**22 + 1)
