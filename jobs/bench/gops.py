"""`bench gops`: what it costs to close a GOP at every knot.

A GOP per knot interval, each from a fresh encoder, is what makes the decoded bits independent of how a video
was cut into chunks. The price is keyframes; this measures it in bytes at equal quality settings.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from jobs.bench.result import BenchResult, Target
from jobs.demo.degrade import psnr, read_clip
from jobs.demo.demo import TRUTH
from pipeline.settings import EncodeSettings, Limits


def run(quick: bool) -> BenchResult:
    """Encode the bundled clip with GOPs of 8, 16 and all frames; ``quick`` takes a faster preset."""
    from pipeline.video.encode import encode_rgb_segment
    from pipeline.video.index import build_index
    from pipeline.video.rgb import decode_rgb

    settings = EncodeSettings(preset="veryfast" if quick else "medium")
    index, clip = read_clip(TRUTH)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        for gop in (8, 16, index.frames):
            gops = [gop] * (index.frames // gop)
            path = os.path.join(folder, f"{gop}.mkv")
            segment = encode_rgb_segment(path, clip, gops, index, settings)
            made = build_index(path, path, Limits(), "")
            quality = psnr(decode_rgb(path, made, range(index.frames)), clip)
            rows.append({"gop": gop, "bytes": segment.size, "psnr_db": round(quality, 2)})
    whole = rows[-1]["bytes"]
    for row in rows:
        row["bytes_ratio"] = round(row["bytes"] / whole, 3)
    sixteen = next(row for row in rows if row["gop"] == 16)
    saved = Target("whole-clip bytes over bytes at GOP 16", round(whole / sixteen["bytes"], 3), 0.6)
    return BenchResult("gops", tuple(rows), (saved,))
