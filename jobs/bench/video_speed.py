"""`bench video`, throughput: every stage of the pipeline against a plain loop of the same libav work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame

from jobs.bench import video_plain as plain
from jobs.bench.race import Race, race
from jobs.bench.result import Target
from jobs.bench.video_chain import check, identity_job
from pipeline.plan import plan_video
from pipeline.settings import ConsistencySettings, EncodeSettings, Limits
from pipeline.video.assemble import assemble
from pipeline.video.container import choose_container
from pipeline.video.decode import decode_frames
from pipeline.video.encode import encode_source_segment
from pipeline.video.encoders import plan_encoder
from pipeline.video.index import build_index
from pipeline.video.rgb import decode_rgb
from pipeline.video.types import Assembly, Segment, VideoIndex

#: Ours may take this many times the plain seconds, in the stages that a target is set for.
ALLOWED = 1.3
TARGETED = ("index", "decode", "encode", "assemble")


@dataclass(frozen=True)
class Bout:
    """Stage ``name`` of one clip, done by us and plainly."""

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]


def speed_rows(path: str, settings: EncodeSettings, repeats: int) -> tuple[dict[str, Any], ...]:
    """One row per stage for a clip. Raises SourceError and ChunkError for what the pipeline refuses."""
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        work = _Work(path, settings, Path(folder))
        return tuple(
            _row(Path(path).stem, work.index.frames, bout.name, race(bout.ours, bout.plain, repeats))
            for bout in work.bouts()
        )


def speed_targets(rows: tuple[dict[str, Any], ...]) -> list[Target]:
    """Plain seconds over ours, at least 1 / ALLOWED in the stages that a target is set for."""
    return [
        Target(f"{row['clip']}: {row['stage']}, plain seconds over ours", plain_over_ours(row["ratio"]),
               round(1 / ALLOWED, 3))
        for row in rows if row["stage"] in TARGETED
    ]  # fmt: skip


def plain_over_ours(ratio: float) -> float:
    """The reciprocal, rounded to three digits."""
    return round(1 / ratio, 3)


def _row(clip: str, frames: int, stage: str, result: Race) -> dict[str, Any]:
    return {
        "clip": clip,
        "stage": stage,
        "ours_s": round(result.ours_seconds, 4),
        "plain_s": round(result.plain_seconds, 4),
        "ours_fps": round(frames / result.ours_seconds, 1),
        "ratio": round(result.ratio, 3),
        "cpu_ratio": round(result.cpu_ratio, 3),
    }


class _Work:
    """One clip with everything that a stage needs from those before it, made once outside the clock."""

    def __init__(self, path: str, settings: EncodeSettings, folder: Path) -> None:
        self.path, self.settings, self.folder = path, settings, folder
        self.index = build_index(path, path, Limits(), "")
        consistency = ConsistencySettings(knots="even")
        self.gop = consistency.knot_every
        self.chunks = plan_video(self.index, consistency, 1).chunks
        geometry = self.index.geometry
        self.plan = plan_encoder(self.index, settings, geometry.width, geometry.height)
        self.container = choose_container(self.index, settings)
        # Decoded once and held: encoding is timed without decoding.
        self.frames: list[VideoFrame] = list(decode_frames(path, self.index, 0, self.index.frames))
        self.plain_file = str(folder / "plain.mkv")
        self.out = str(folder / f"out.{self.container}")
        self.segments = self.encode()
        plain.encode_all(self.plain_file, self.frames, self.plan, self.gop)
        self.assembly = self.assemble()

    def bouts(self) -> tuple[Bout, ...]:
        return (
            Bout("index", self.build, self.plain_decode),
            Bout("decode", self.decode, self.plain_decode),
            Bout("decode to RGB", self.decode_to_rgb, lambda: plain.decode_all_rgb(self.path, self.index)),
            Bout("encode", self.encode, self.plain_encode),
            Bout("assemble", self.assemble, self.plain_remux),
            Bout("verify", self.verify, lambda: plain.decode_all(self.out, self.assembly.stream)),
            Bout("whole chain", self.chain, self.plain_transcode),
        )

    def build(self) -> VideoIndex:
        return build_index(self.path, self.path, Limits(), "")

    def decode(self) -> None:
        for chunk in self.chunks:
            for _ in decode_frames(self.path, self.index, chunk.first, chunk.last):
                pass

    def decode_to_rgb(self) -> None:
        for chunk in self.chunks:
            decode_rgb(self.path, self.index, range(chunk.first, chunk.last))

    def encode(self) -> list[Segment]:
        return [
            encode_source_segment(
                self._segment(n), self.frames[c.first : c.last], c.gops, self.index, self.settings
            )
            for n, c in enumerate(self.chunks)
        ]

    def assemble(self) -> Assembly:
        paths = [self._segment(n) for n in range(len(self.chunks))]
        return assemble(self.path, self.index, paths, self.segments, self.out, self.container, self.settings)

    def verify(self) -> None:
        check(self.out, self.path, self.index, self.segments, self.assembly)

    def chain(self) -> None:
        identity_job(self.path, self.folder, self.settings)

    def plain_decode(self) -> int:
        return plain.decode_all(self.path, self.index.stream)

    def plain_encode(self) -> None:
        plain.encode_all(self.plain_file, self.frames, self.plan, self.gop)

    def plain_remux(self) -> None:
        plain.remux(self.plain_file, self.path, str(self.folder / "remuxed.mp4"))

    def plain_transcode(self) -> None:
        plain.transcode(self.path, self.index, str(self.folder / "transcoded.mp4"), self.plan, self.gop)

    def _segment(self, n: int) -> str:
        return os.path.join(self.folder, f"{n}.mkv")
