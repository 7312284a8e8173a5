"""The rows that travel: what one unit of work is, as frozen values that become one JSON string."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.windows import reach

Level = Literal["anchors", "knots", "chunk"]

#: ``UnitTask.enhance`` of a video to which nothing is done.
UNTOUCHED = "[]"


@dataclass(frozen=True)
class VideoRef:
    """Which source a unit belongs to, and where its index lies in the chunk store. ``source_version``: as
    `pipeline.source_cache.SourceCache.version`, where it is known."""

    uri: str
    source_digest: str
    index_key: str
    source_version: str = ""


@dataclass(frozen=True)
class UnitTask:
    """One anchors, knots or chunk task. ``ordinals`` are the frames it needs, absolute and ascending.

    ``grid`` are the knots around them; ``gops`` the GOP sizes of a chunk. What it reads lies in the chunk
    store under ``anchors_key`` ("" when none) and ``knot_keys`` (pairs of ordinal and key). Knots are
    committed one by one, as ``makes`` (pairs of ordinal and key) says; anything else under ``key``.
    ``enhance`` is JSON, pairs of place in the job's list and item, where that list is not the job's; "" where
    it is. Where frames are restored together, ``halo`` more are needed on both sides, as far as the scene
    ``scene_range`` (first, last exclusive) goes.
    """

    level: Level
    key: str
    video: VideoRef
    scene: int
    number: int
    ordinals: tuple[int, ...]
    grid: tuple[int, ...] = ()
    gops: tuple[int, ...] = ()
    anchors_key: str = ""
    knot_keys: tuple[tuple[int, str], ...] = ()
    makes: tuple[tuple[int, str], ...] = ()
    enhance: str = ""
    halo: int = 0
    scene_range: tuple[int, int] = (0, 0)

    @property
    def decoded(self) -> tuple[int, ...]:
        """The frames that are needed, with their halo."""
        if not self.halo:
            return self.ordinals
        return tuple(range(*reach(self.ordinals[0], self.ordinals[-1] + 1, self.halo, self.scene_range)))

    @property
    def untouched(self) -> bool:
        """Whether nothing is done to the frames of an enhancing job."""
        return self.enhance == UNTOUCHED

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> UnitTask:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            level=raw["level"],
            key=raw["key"],
            video=VideoRef(**raw["video"]),
            scene=raw["scene"],
            number=raw["number"],
            ordinals=tuple(raw["ordinals"]),
            grid=tuple(raw["grid"]),
            gops=tuple(raw["gops"]),
            anchors_key=raw["anchors_key"],
            knot_keys=tuple((ordinal, key) for ordinal, key in raw["knot_keys"]),
            makes=tuple((ordinal, key) for ordinal, key in raw["makes"]),
            enhance=raw["enhance"],
            halo=raw["halo"],
            scene_range=tuple(raw["scene_range"]),
        )


@dataclass(frozen=True)
class VideoTask:
    """Assembly of one video: segments of ``chunk_keys`` in order become ``output_rel``, a ``container``
    file; its manifest row is committed under ``video_key``. ``untouched``: nothing was done to its frames."""

    video: VideoRef
    video_key: str
    container: str
    output_rel: str
    chunk_keys: tuple[str, ...]
    untouched: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a unit failed: ``code`` is a stable word; ``retry`` tells whether trying again may help.

    ``stage`` is the step that failed, ``attempts`` how often it was begun, ``node`` where it was last.
    """

    code: str
    message: str
    retry: bool
    stage: str = ""
    attempts: int = 0
    node: str = ""
