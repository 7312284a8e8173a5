"""Scenes with settings of their own: which entries of a job name a video, and the lists they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.auto_degradation import Resolved, resolved
from pipeline.errors import SpecError
from pipeline.settings import SceneOverride


@dataclass(frozen=True)
class OwnScenes:
    """One entry that names a video: the ``enhance`` list of its ``scenes`` (None: of all)."""

    place: int
    scenes: tuple[int, ...] | None
    enhance: Resolved


def own_scenes(
    overrides: Sequence[SceneOverride], uri: str, degradations: Sequence[Mapping[str, Any]] = ()
) -> tuple[OwnScenes, ...]:
    """The entries that name the video ``uri``; ``degradations`` are those that were estimated for it."""
    return tuple(
        OwnScenes(place, entry.scenes, resolved(entry.enhance, degradations))
        for place, entry in enumerate(overrides)
        if names(entry, uri)
    )


def names(entry: SceneOverride, uri: str) -> bool:
    """Whether the end of the path ``uri`` fits the entry's pattern, folder by folder."""
    return PurePosixPath(uri).match(entry.video)


def list_of(own: Sequence[OwnScenes], scene: int) -> Resolved | None:
    """The list of a scene that has one of its own: that of the last entry that names it."""
    found = [entry.enhance for entry in own if entry.scenes is None or scene in entry.scenes]
    return found[-1] if found else None


def require_named_videos(overrides: Sequence[SceneOverride], uris: Sequence[str]) -> None:
    """Raises SpecError for an entry that names no video of the catalog."""
    for place, entry in enumerate(overrides):
        if not any(names(entry, uri) for uri in uris):
            raise SpecError(
                f"scenes.{place}.video: {entry.video!r} fits no source of the job; it is compared with the "
                "end of their paths, such as film.mp4, 1921/*.mp4 or *",
                field=f"scenes.{place}.video",
            )


def absent_scenes(own: Sequence[OwnScenes], scenes: int) -> tuple[str, ...]:
    """A sentence for each entry that names a scene that a video of ``scenes`` scenes does not have."""
    told = []
    for entry in own:
        absent = [scene for scene in entry.scenes or () if scene >= scenes]
        if absent:
            listed = ", ".join(str(scene) for scene in absent)
            told.append(f"scenes.{entry.place} names scene {listed}; the last one is {scenes - 1}")
    return tuple(told)
