"""Estimated degradations in the plan: read from the store, or made here when nothing may be written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.auto_degradation import Resolved, estimate_video, resolved, wants_estimate
from pipeline.commit import ChunkStore
from pipeline.job_keys import estimate_key
from pipeline.keys import canonical_json
from pipeline.settings import JobSettings
from pipeline.video.types import VideoIndex
from pipeline.work import VideoRef


@dataclass(frozen=True)
class Estimate:
    """What was found out about one video: ``facts`` as `pipeline.auto_degradation.estimate_video`, and the
    ``enhance`` list that they make of the job's."""

    facts: dict[str, Any]
    enhance: Resolved

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be told, and that nothing is to be undone, a sentence each."""
        told = tuple(f"degradation auto: {sentence}" for sentence in self.facts["undecided"])
        if self.facts["degradations"]:
            return told
        return (*told, "degradation auto: no noise, blur or overlay stands out, so nothing is restored")

    def record(self) -> dict[str, Any]:
        """For ``plan.json``, manifests and people."""
        return {
            "noise": round(self.facts["noise"]["sigma"], 4),
            "blur": round(self.facts["blur"]["sigma"], 2),
            "bars": self.facts["bars"],
            "degradations": self.facts["degradations"],
            "warnings": list(self.warnings),
        }


def committed_estimate(settings: JobSettings, video: VideoRef, chunks: ChunkStore) -> Estimate | None:
    """The estimate of an indexed video; None where there is none yet. Raises StoreError."""
    receipt = chunks.lookup(estimate_key(video.index_key))
    if receipt is None:
        return None
    facts = json.loads(chunks.read(receipt))
    return Estimate(facts, resolved(settings.enhance, facts["degradations"]))


def estimate_here(
    settings: JobSettings, video: VideoRef, index: VideoIndex, path: str, chunks: ChunkStore
) -> Estimate | None:
    """The committed estimate, or one made now and kept nowhere; None for jobs that ask for none. Raises
    SourceError."""
    if not wants_estimate(settings.enhance):
        return None
    known = committed_estimate(settings, video, chunks)
    if known is not None:
        return known
    facts = json.loads(canonical_json(estimate_video(path, index)))
    return Estimate(facts, resolved(settings.enhance, facts["degradations"]))
