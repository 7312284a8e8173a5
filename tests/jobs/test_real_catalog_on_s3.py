"""A dozen real clips, restored from and to a real S3 server by the command a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import yaml

from pipeline.store import Store
from pipeline.video.verify import measure
from tests.support.s3 import S3Bucket
from tests.support.shared import shared_dir

#: VFR, rotation, 10 bit, HDR10, odd sizes, 1x1, late and uneven starts, audio, subtitles, five containers.
CLIPS = (
    "clips/bt601.mov",
    "clips/delayed_start.mp4",
    "clips/h265_leading_pics.mp4",
    "clips/hdr10_rot_chapters_attach.mkv",
    "clips/rot90.mov",
    "clips/tiny_1x1.mp4",
    "clips/truck_512_10fps.mp4",
    "clips/vp9_10bit_hidden_frames.webm",
    "clips/vp9_161x121.webm",
    "clips/webvtt.mkv",
    "derived/slideshow_vfr_4f.mp4",
    "bad/-dash ünï ☃ 'q' %20.mp4",
)


def times(path: Path) -> list[Fraction]:
    measured = measure(str(path))
    return [pts * measured.time_base for pts in measured.pts]


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_dozen_real_clips_come_back_with_their_frames_times_and_sound(
    s3: S3Bucket, tmp_path: Path
) -> None:
    media = shared_dir() / "media"
    store = Store(s3.url, s3.storage)
    for name in CLIPS:
        store.put_file(f"in/{name}", media / name)
    restore = {"degradation": {"kind": "denoise", "noise": 0.03}, "solver": {"name": "dpir"}}
    job = {
        "name": "real",
        "source": f"{s3.url}/in/**/*.*",
        "output": f"{s3.url}/out/",
        "storage": {"endpoint_url": s3.endpoint_url},
        "enhance": [{"restore": restore}],
        "consistency": {"sharing": "none", "knot_every": 12, "knots_per_chunk": 1},
        "encode": {"preset": "veryfast"},
        "cluster": {"address": "local", "actors": [1, 2]},
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    ran = subprocess.run(
        [sys.executable, "-m", "jobs", "run", str(path)],
        capture_output=True,
        text=True,
        timeout=1100,
        env=dict(os.environ),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    plan = json.loads(store.read(next(p for p in store.list("out/runs") if p.endswith("plan.json"))))
    assert len(plan["videos"]) == len(CLIPS)
    for video in plan["videos"]:
        source = media / video["video_uri"].removeprefix(f"{s3.url}/in/")
        made = tmp_path / Path(video["output_rel"]).name
        store.get_file(f"out/{video['output_rel']}", made)
        before, after = times(source), times(made)
        # Matroska and WebM write whole milliseconds.
        slack = Fraction(1, 2000) if made.suffix in (".mkv", ".webm") else 0
        assert len(after) == len(before), source.name
        assert all(abs(a - b) <= slack for a, b in zip(after, before, strict=True)), source.name
        assert sound(made) == sound(source), source.name
