"""Encoded bits do not depend on what memory held before (glibc fills what it hands out when told to)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

DEGRADE = """
import hashlib, sys
from pathlib import Path
from jobs.demo.degrade import write_degraded
from jobs.demo.demo import TRUTH
write_degraded(TRUTH, Path(sys.argv[1]))
print(hashlib.md5(Path(sys.argv[1]).read_bytes()).hexdigest())
"""
SEGMENT = """
import hashlib, sys
from pathlib import Path
from jobs.demo.degrade import degrade, read_clip
from jobs.demo.demo import TRUTH
from pipeline.settings import EncodeSettings
from pipeline.video.encode import encode_rgb_segment
index, clip = read_clip(TRUTH)
# 160x90: a height that is no multiple of 16.
encode_rgb_segment(sys.argv[1], degrade(clip)[:12], [12], index, EncodeSettings(codec=sys.argv[2], crf=4))
print(hashlib.md5(Path(sys.argv[1]).read_bytes()).hexdigest())
"""


def digest(code: str, perturb: int, *arguments: str) -> str:
    env = {**os.environ, "MALLOC_PERTURB_": str(perturb)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_the_degraded_clip_of_the_demo_is_the_same_bytes_whatever_memory_held(tmp_path: Path) -> None:
    assert digest(DEGRADE, 85, str(tmp_path / "a.mp4")) == digest(DEGRADE, 165, str(tmp_path / "b.mp4"))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_a_segment_is_the_same_bytes_whatever_memory_held(tmp_path: Path, codec: str) -> None:
    first = digest(SEGMENT, 85, str(tmp_path / "a.mkv"), codec)
    assert first == digest(SEGMENT, 165, str(tmp_path / "b.mkv"), codec)
