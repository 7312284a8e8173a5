"""Steps of a source: its index, and how it was degraded."""

from __future__ import annotations

from pipeline.auto_degradation import estimate_video
from pipeline.job_keys import estimate_key, index_key
from pipeline.keys import canonical_json
from pipeline.steps.context import TaskContext, committed_index
from pipeline.steps.guarded import guarded
from pipeline.steps.rows import Row
from pipeline.video.index import build_index
from pipeline.video.index_io import index_to_bytes


def index_source(row: Row, context: TaskContext) -> Row:
    """Fetch, hash and index one source: adds ``source_digest``, ``source_version`` and ``index_key``."""

    def work() -> Row:
        version = context.sources.version(row["uri"])  # before it is read: a change meanwhile shows later
        path, source_digest = context.sources.local_path(row["uri"])
        key = index_key(source_digest, context.limits, context.video)
        if context.chunks.lookup(key) is None:
            index = build_index(path, row["uri"], context.limits, source_digest, context.video)
            context.chunks.commit_bytes(key, ".index", index_to_bytes(index), {"frames": index.frames})
        return {"source_digest": source_digest, "source_version": version, "index_key": key}

    return guarded(row, context, "index", work)


def estimate_source(row: Row, context: TaskContext) -> Row:
    """Estimate how an indexed source was degraded, once per index and code; adds nothing to the row."""

    def work() -> Row:
        key = estimate_key(row["index_key"])
        if context.chunks.lookup(key) is None:
            path = context.sources.open_verified(row["uri"], row["source_digest"])
            facts = estimate_video(path, committed_index(context, row["index_key"]))
            context.chunks.commit_bytes(key, ".estimate.json", canonical_json(facts), {})
        return {}

    return guarded(row, context, "estimate", work)
