"""A job in this process, without Ray: the same steps in the same order, one after another."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.auto_degradation import wants_estimate
from pipeline.catalog import output_extensions, resolve_catalog
from pipeline.job_keys import JobKeys
from pipeline.keys import code_digest
from pipeline.manifest import VideoRow
from pipeline.model_files import model_digest
from pipeline.pictures import load_pictures
from pipeline.settings import JobSettings
from pipeline.steps import assemble, enhance, sources, units
from pipeline.steps.context import TaskContext
from pipeline.store import Store
from pipeline.video_planner import plan_videos


def context_of(settings: JobSettings, **facts: Any) -> TaskContext:
    return TaskContext(
        settings.output,
        settings.storage,
        settings.limits,
        settings.video,
        settings.encode,
        ledger="",
        code=code_digest(),
        provenance=settings.provenance,
        **facts,
    )


def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of steps are raised instead of becoming rows."""
    for steps in (assemble, enhance, sources, units):
        monkeypatch.setattr(steps, "guarded", lambda row, context, step, work, **how: {**row, **work()})


def run_directly(settings: JobSettings, monkeypatch: pytest.MonkeyPatch) -> dict[str, VideoRow]:
    """Published rows by URI. Style references are not made; every error is raised."""
    unguarded(monkeypatch)
    pictures = load_pictures(settings)
    clips = tuple((number, clip.video) for number, clip in pictures.clips.items())
    context = context_of(settings, mask_clips=clips)
    for clip in pictures.clips.values():
        clip.commit(context.chunks)
    indexed = []
    for entry in resolve_catalog(
        settings.source, settings.output, settings.storage, output_extensions(settings.encode.codec)
    ):
        row = sources.index_source({"uri": entry.uri, "status": "ok"}, context)
        if wants_estimate(settings.enhance):
            row = sources.estimate_source(row, context)
        indexed.append((entry, row))
    keys = JobKeys(settings, model_digest(settings.model), "cpu", mask_digests=pictures.mask_digests)
    store = Store(settings.output, settings.storage)
    job = plan_videos(settings, keys, indexed, context.chunks, store, pictures.mask_sizes)
    assert job.refused == ()
    config = pictures.enhancer_config(settings, "cpu")
    assert config is not None
    actor = enhance.EnhanceUnits(config, {}, context)
    published = {row.video_uri: row for row in job.done_before}
    for video in job.videos:
        for unit in (*video.references, *video.chunks):
            row = {"key": unit.key, "status": "ok", "seconds": 0.0, "attempts": 1, "task": unit.to_json()}
            made = actor(units.decode_unit(row, context))
            if unit.level == "chunk":
                units.encode_unit(made, context)
        done = assemble.assemble_video(video.task, video.row, context)
        assert isinstance(done, VideoRow)
        published[done.video_uri] = done
    return published
