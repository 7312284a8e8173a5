"""What a run is to do: one entry per video, and the manifest rows that planning knows already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.job_keys import JobKeys, package_versions
from pipeline.keys import digest
from pipeline.manifest import ChunkRow, VideoRow
from pipeline.plan import VideoPlan
from pipeline.work import Failure, UnitTask, VideoRef, VideoTask


@dataclass(frozen=True)
class VideoJob:
    """What is left to do for one video, and the manifest row it will get."""

    task: VideoTask
    row: VideoRow
    keys: JobKeys
    plan: VideoPlan
    references: tuple[UnitTask, ...]
    chunks: tuple[UnitTask, ...]


@dataclass(frozen=True)
class Job:
    """All videos of a job: ``videos`` are open, ``done_before`` published by an earlier run. ``unlisted`` are
    the manifest rows that an earlier run owes."""

    keys: JobKeys
    videos: tuple[VideoJob, ...]
    done_before: tuple[VideoRow, ...]
    refused: tuple[VideoRow, ...]
    unlisted: tuple[ChunkRow, ...]
    chunks: int
    chunks_done: int
    records: tuple[dict[str, Any], ...]

    @classmethod
    def untouched(cls, keys: JobKeys) -> Job:
        """A job of no videos so far."""
        return cls(keys, (), (), (), (), 0, 0, ())

    @property
    def estimates(self) -> dict[str, dict[str, Any]]:
        """By video what its estimated degradation is, for jobs that ask for it."""
        return {record["video_uri"]: record["estimate"] for record in self.records if "estimate" in record}

    def with_settled(self, rows: Iterable[VideoRow]) -> Job:
        """The job and videos that were found finished without planning them."""
        settled = tuple(rows)
        chunks = sum(int(row.metrics.get("chunks", 0)) for row in settled)
        records = tuple(
            {"video_uri": r.video_uri, "output_rel": r.output_rel, "frames": r.frames, "settled": True}
            for r in settled
        )
        return replace(
            self,
            done_before=(*self.done_before, *settled),
            chunks=self.chunks + chunks,
            chunks_done=self.chunks_done + chunks,
            records=(*self.records, *records),
        )

    def record(self) -> dict[str, Any]:
        """Facts for ``plan.json``."""
        return {
            "videos": list(self.records),
            "chunks": self.chunks,
            "chunks_done": self.chunks_done,
            "rejected": [
                {"uri": row.video_uri, "code": row.code, "error": row.error} for row in self.refused
            ],
        }


def planned_row(keys: JobKeys, video: VideoRef, container: str) -> VideoRow:
    """The manifest row that a video will get when it is published, as far as planning knows it."""
    return VideoRow(
        video_uri=video.uri,
        video_key=keys.video(video.source_digest, container),
        status="done",
        source_digest=video.source_digest,
        source_version=video.source_version,
        **_job_facts(keys),
    )


def quarantined_row(keys: JobKeys, video: VideoRef, failure: Failure) -> VideoRow:
    """The manifest row of a refused video."""
    key = keys.video(video.source_digest, "") if video.source_digest else digest(["refused", video.uri])
    return VideoRow(
        video_uri=video.uri,
        video_key=key,
        status="quarantined",
        code=failure.code,
        error=failure.message,
        stage=failure.stage,
        attempts=failure.attempts,
        node=failure.node,
        source_digest=video.source_digest,
        source_version=video.source_version,
        **_job_facts(keys),
    )


def _job_facts(keys: JobKeys) -> dict[str, Any]:
    return {
        "spec_digest": keys.spec_digest(),
        "model_digest": keys.model_digest,
        "style_digest": digest(keys.style_keys) if keys.style_keys else "",
        "versions": package_versions(),
        "seed": keys.settings.seed,
    }
