"""The last step of a video: join, label and sign, verify, publish."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time

from pipeline.commit import ChunkStore, publish_video
from pipeline.disclosure import Sealed, label_tags, seal
from pipeline.errors import ResultLostError, SourceError
from pipeline.failures import failure_of
from pipeline.manifest import VideoRow
from pipeline.steps.context import TaskContext, committed_index
from pipeline.steps.guarded import guarded
from pipeline.steps.receipts import segment_of
from pipeline.video.assemble import assemble
from pipeline.video.copy_name import COPY
from pipeline.video.pass_through import verify_copy
from pipeline.video.published import verified_facts, verified_metrics
from pipeline.video.types import Assembly, Segment
from pipeline.video.verify import verify_file
from pipeline.work import Failure, VideoTask


def assemble_video(
    video: VideoTask, row: VideoRow, context: TaskContext, apart: bool = False
) -> VideoRow | Failure:
    """Join a video's segments with the source's other streams (or take the source as it is, for ``copy``),
    verify, publish, commit its row. ``apart``: nothing else is at work."""
    counted = guarded(
        {"status": "ok", "key": f"{video.video_key}@{video.video.uri}", "apart": apart},
        context,
        "assemble",
        lambda: {"row": _assemble(video, row, context)},
    )
    if counted["status"] == "ok":
        published: VideoRow = counted["row"]
        return published
    return failure_of(counted)


def _assemble(video: VideoTask, row: VideoRow, context: TaskContext) -> VideoRow:
    begun = time.monotonic()
    chunks = context.chunks
    index = committed_index(context, video.video.index_key)
    source = context.sources.open_verified(video.video.uri, video.video.source_digest)
    untouched, how = context.identity or video.untouched, context.provenance
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        if context.encode.codec == COPY:
            sealed = Sealed(source, None, {})
            assembly = Assembly(video.container, (), ())
            verified = verify_copy(source, index)
        else:
            finished = os.path.join(folder, f"video.{video.container}")
            paths, segments = _fetch_segments(video, chunks, folder)
            tags = label_tags(how, video.container, changed=not untouched)
            assembly = assemble(
                source, index, paths, segments, finished, video.container, context.encode, tags
            )
            sealed = seal(finished, source, video.output_rel, row, how, changed=not untouched)
            verified = verify_file(
                sealed.path, source, index, segments, assembly, context.encode, identity=untouched
            )
        if verified.problems:
            raise SourceError(
                f"{video.video.uri}: the finished file failed its verification and was not published: "
                + "; ".join(verified.problems),
                code="verification_failed",
                uri=video.video.uri,
            )
        row = dataclasses.replace(
            row,
            **verified_facts(verified),
            warnings=(
                *row.warnings,
                *index.warnings,
                *assembly.warnings,
                *sealed.warnings,
                *verified.warnings,
            ),
            dropped_streams=assembly.dropped_streams,
            versions={**row.versions, "ffmpeg": verified.object.ffmpeg},
            metrics={
                **row.metrics,
                **verified_metrics(verified),
                "provenance": sealed.record,
                "assemble_seconds": round(time.monotonic() - begun, 3),
            },
        )
        published = publish_video(
            chunks.store, sealed.path, video.output_rel, row, context.fence, sealed.sidecar
        )
    context.sources.evict(video.video.uri, video.video.source_digest)
    return published


def _fetch_segments(video: VideoTask, chunks: ChunkStore, folder: str) -> tuple[list[str], list[Segment]]:
    paths, segments = [], []
    for number, key in enumerate(video.chunk_keys):
        receipt = chunks.lookup(key)
        if receipt is None:
            raise ResultLostError(f"{video.video.uri}: segment {number} is gone; run the job again", uri=key)
        paths.append(os.path.join(folder, f"{number:08d}.mkv"))
        chunks.fetch(receipt, paths[-1])
        segments.append(segment_of(receipt.facts["segment"]))
    return paths, segments
