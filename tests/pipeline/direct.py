"""A job in this process, without Ray: the same tasks in the same order, one after another."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import tasks
from pipeline.auto_degradation import wants_estimate
from pipeline.catalog import output_extensions, resolve_catalog
from pipeline.job_keys import JobKeys
from pipeline.job_plan import plan_videos
from pipeline.keys import code_digest
from pipeline.manifest import VideoRow
from pipeline.model_files import model_digest
from pipeline.pictures import load_pictures
from pipeline.settings import JobSettings
from pipeline.store import Store


def context_of(settings: JobSettings, **facts: Any) -> tasks.TaskContext:
    return tasks.TaskContext(
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
    """Errors of tasks are raised instead of becoming rows."""
    monkeypatch.setattr(tasks, "guarded", lambda row, context, step, work, **how: {**row, **work()})


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
        row = tasks.index_source({"uri": entry.uri, "status": "ok"}, context)
        if wants_estimate(settings.enhance):
            row = tasks.estimate_source(row, context)
        indexed.append((entry, row))
    keys = JobKeys(settings, model_digest(settings.model), "cpu", mask_digests=pictures.mask_digests)
    store = Store(settings.output, settings.storage)
    job = plan_videos(settings, keys, indexed, context.chunks, store, pictures.mask_sizes)
    assert job.refused == ()
    config = pictures.enhancer_config(settings, "cpu")
    assert config is not None
    actor = tasks.EnhanceUnits(config, {}, context)
    published = {row.video_uri: row for row in job.done_before}
    for video in job.videos:
        for unit in (*video.references, *video.chunks):
            row = {"key": unit.key, "status": "ok", "seconds": 0.0, "attempts": 1, "task": unit.to_json()}
            made = actor(tasks.decode_unit(row, context))
            if unit.level == "chunk":
                tasks.encode_unit(made, context)
        done = tasks.assemble_video(video.task, video.row, context)
        assert isinstance(done, VideoRow)
        published[done.video_uri] = done
    return published
