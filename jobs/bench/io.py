"""`bench io`: frames per second through what lies around the model: decoding, encoding, and uploads.

Each step is the one that jobs take, chunk by chunk, in turns with a plain loop of the same libraries in one
thread: decoding to RGB; encoding from RGB, ours with the read-back that proves each segment; and committing
the segments to a store on this disk, ours with digests, receipts and exclusive creation, plainly as copies of
files. Uploads to S3 depend on the network first, and are not measured here.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from jobs.bench import video_plain as plain
from jobs.bench.race import race
from jobs.bench.result import BenchResult
from jobs.bench.video_clips import Moving, write_moving
from pipeline.commit import ChunkStore
from pipeline.keys import digest
from pipeline.plan import plan_video
from pipeline.settings import ConsistencySettings, EncodeSettings, Limits
from pipeline.store import Store
from pipeline.video.encode import encode_rgb_segment
from pipeline.video.encoders import plan_encoder
from pipeline.video.index import build_index
from pipeline.video.rgb import decode_rgb

_MIB = 2.0**20
FULL, QUICK = Moving(1280, 720, 96), Moving(640, 360, 48)
#: Short chunks, so that there are several to upload.
_CONSISTENCY = ConsistencySettings(knots="even", knots_per_chunk=1)


def run(quick: bool) -> BenchResult:
    """A clip of 1280x720 made on the spot, five turns of each step; ``quick`` 640x360 and three."""
    with tempfile.TemporaryDirectory(prefix="reelweave-io-") as name:
        folder = Path(name)
        path = write_moving(folder / "clip.mp4", QUICK if quick else FULL)
        rows = tuple(_Steps(path, folder).rows(3 if quick else 5))
    return BenchResult("io", rows, ())


class _Steps:
    """One clip with what the steps need of each other, made once outside the clock."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path, self.folder, self.settings = path, folder, EncodeSettings()
        self.index = build_index(path, path, Limits(), "")
        self.chunks = plan_video(self.index, _CONSISTENCY, 1).chunks
        geometry = self.index.geometry
        self.plan = plan_encoder(self.index, self.settings, geometry.width, geometry.height)
        self.rgb = self.decode()
        self.encode()
        self._turn = itertools.count()

    def rows(self, repeats: int) -> Iterator[dict[str, Any]]:
        """One row per step."""
        steps = (
            ("decode to RGB", self.decode, lambda: plain.decode_all_rgb(self.path, self.index)),
            ("encode from RGB", self.encode, self.plain_encode),
            ("upload to this disk", self.upload, self.plain_upload),
        )
        for name, ours, plainly in steps:
            found = race(ours, plainly, repeats)
            yield {
                "step": name,
                "frames": self.index.frames,
                "ours_fps": round(self.index.frames / found.ours_seconds, 1),
                "plain_fps": round(self.index.frames / found.plain_seconds, 1),
                "ratio": round(found.ratio, 3),
                "cpu_ratio": round(found.cpu_ratio, 3),
                "mib": round(self._mib(name), 2),
            }

    def decode(self) -> list[np.ndarray[Any, Any]]:
        return [decode_rgb(self.path, self.index, range(c.first, c.last)) for c in self.chunks]

    def encode(self) -> None:
        for n, (chunk, rgb) in enumerate(zip(self.chunks, self.rgb, strict=True)):
            encode_rgb_segment(self._segment(n), rgb, chunk.gops, self.index, self.settings)

    def plain_encode(self) -> None:
        frames = (VideoFrame.from_ndarray(picture, "rgb24") for rgb in self.rgb for picture in rgb)
        stored = (frame.reformat(format=self.plan.pix_fmt) for frame in frames)
        plain.encode_all(str(self.folder / "plain.mkv"), stored, self.plan, _CONSISTENCY.knot_every)

    def upload(self) -> None:
        # What is committed already would not be sent again, so each turn has a store of its own.
        store = ChunkStore(Store(str(self.folder / f"store-{next(self._turn)}")))
        for n in range(len(self.chunks)):
            store.commit(digest(["bench io", n]), ".mkv", self._segment(n), {})

    def plain_upload(self) -> None:
        copies = self.folder / f"copies-{next(self._turn)}"
        copies.mkdir()
        for n in range(len(self.chunks)):
            shutil.copyfile(self._segment(n), copies / f"{n}.mkv")

    def _mib(self, step: str) -> float:
        """What the step hands on: pictures in memory, or files."""
        if step.startswith("decode"):
            return sum(rgb.nbytes for rgb in self.rgb) / _MIB
        return sum(Path(self._segment(n)).stat().st_size for n in range(len(self.chunks))) / _MIB

    def _segment(self, n: int) -> str:
        return str(self.folder / f"{n}.mkv")
