"""Small clips and stores made by hand for the tests of this folder."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.keys import file_sha256
from pipeline.manifest import VideoRow, create_done_row, write_quarantined
from pipeline.store import Store
from pipeline.video.verify import measure


def write_clip(path: Path, *, frames: int = 12, width: int = 64, height: int = 48, shade: int = 0) -> Path:
    """H.264 at 25 fps whose frame n is a grey of about 10 n + shade with a moving white bar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as made:
        stream = made.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "10", "threads": "1"}
        for n in range(frames):
            rgb = np.full((height, width, 3), min(255, 10 * n + shade), np.uint8)
            rgb[:, 2 * n : 2 * n + 4] = 255
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path


def done_row(store: Store, source: Path, output_rel: str, **changes: object) -> VideoRow:
    """The true row of a published clip, not yet written."""
    path = Path(store.uri(output_rel))
    measured = measure(str(path))
    row = VideoRow(
        video_uri=str(source),
        video_key="ab" * 32,
        status="done",
        output_uri=str(path),
        output_rel=output_rel,
        output_sha256=file_sha256(path),
        frames=measured.frames,
        frames_md5=measured.frames_md5,
        pts_sha256=measured.pts_sha256,
        versions={"reelweave": "0.1.0"},
        metrics={"seconds": 1.25},
    )
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def published_store(root: Path, *, left: tuple[str, ...] = (), quarantined: bool = False) -> Store:
    """A store with one published video, as a finished run leaves it."""
    source = write_clip(root.parent / "in" / "a.mp4")
    store = Store(str(root))
    write_clip(root / "videos" / "a.mp4", shade=40)
    create_done_row(store, done_row(store, source, "videos/a.mp4"))
    planned = [str(source), *left]
    if quarantined:
        planned.append("/in/bad.mp4")
        write_quarantined(
            store,
            VideoRow("/in/bad.mp4", "cd" * 32, "quarantined", code="no_moov", error="bad.mp4 was cut off"),
        )
    write_plan(store, "20260102T030405-aaaa", planned)
    store.put(".work/ab/abcd.json", b"{}")
    return store


def write_plan(store: Store, run_id: str, uris: list[str]) -> None:
    """The plan that a run leaves beside its job file."""
    videos = [{"video_uri": uri, "output_rel": "", "frames": 12, "scenes": 1, "chunks": 1} for uri in uris]
    store.put(f"runs/{run_id}/plan.json", json.dumps({"run_id": run_id, "videos": videos}).encode())
