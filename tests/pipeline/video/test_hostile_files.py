"""Every hostile, damaged or odd file of ``media/bad`` and the answer it must get.

One row per file: a refusal with its code, or the frames of the output with what is said about them.
Each file is looked at in a process of its own with a limit on time and memory, so that a hang, a
crash or a decompression bomb is one failed test and not the end of the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq
import pytest

from pipeline.keys import file_sha256
from pipeline.manifest import VideoRow
from pipeline.settings import Limits
from pipeline.video.index import build_index
from pipeline.video.verify import measure
from tests.pipeline.graph.jobs import identity_job, run
from tests.support.shared import shared_dir

SECONDS = 60
ADDRESS_SPACE = 3 * 2**30
RESIDENT = 250 * 2**20  # Python with its libraries is 75 MB of it; decoding the bomb would take 310 MB.


@dataclass(frozen=True)
class Refused:
    """No output, one row with this code, and the message has these words."""

    code: str
    words: str = ""


@dataclass(frozen=True)
class Taken:
    """Output of so many frames; ``warnings`` begin what is said about the file, one by one."""

    frames: int
    warnings: tuple[str, ...] = ()
    container: str = "mov"


ANSWERS: dict[str, Refused | Taken] = {
    "-dash ünï ☃ 'q' %20.mp4": Taken(1),
    "all_black_300f.mp4": Taken(300),
    "audio_only.mp4": Refused("no_video_stream"),
    "bitflips.mp4": Taken(150, ("decode_errors=2", "corrupt_frames=2", "frames_missing=2")),
    "bomb_12000x12000_png.mkv": Refused("too_many_pixels", "limits.max_pixels"),
    "cover_only.m4a": Refused("no_video_stream", "cover art"),
    "encrypted_cenc.mp4": Refused("encrypted"),
    "fps_1_per_10min.mp4": Taken(3),
    "header_only.mp4": Refused("no_frames"),
    "lying_duration_10h.mp4": Taken(21),
    "lying_header_65535.mp4": Taken(21),
    "negative_start.mkv": Refused("pts_missing", "30 of 40"),
    "one_frame.mp4": Taken(1),
    "playlist_file_url.mp4": Refused("not_a_video"),
    "png_named.mp4": Refused("still_image"),
    "pts_jump.mkv": Taken(40, ("pts_gap: 93.650 s",), "matroska"),
    "random_4k.mp4": Refused("not_a_video"),
    "raw_no_pts.h264": Refused("no_timestamps"),
    "really_webm.mp4": Taken(20, container="webm"),
    "resolution_change_h264.ts": Refused("resolution_change", "384x216"),
    "s3_error_page.mp4": Refused("not_a_video"),
    "starts_mid_gop.ts": Taken(24, ("leading_packets_undecodable=45",), "mpegts"),
    "truncated_faststart.mp4": Refused("truncated", "of its 102 frames"),
    "truncated_no_moov.mp4": Refused("no_moov"),
    "ts_33bit_wrap.ts": Taken(40, container="mpegts"),
    "zero_byte.mp4": Refused("empty"),
}
REFUSED = {name: answer for name, answer in ANSWERS.items() if isinstance(answer, Refused)}
TAKEN = {name: answer for name, answer in ANSWERS.items() if isinstance(answer, Taken)}

_LOOK = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE}, {ADDRESS_SPACE}))
from pipeline.errors import SourceError
from pipeline.settings import Limits
from pipeline.video.decode import decode_frames
from pipeline.video.index import build_index

path, seen = sys.argv[1], {{}}
try:
    index = build_index(path, "s3://in/x", Limits(), "digest")
    seen = {{"frames": index.frames, "warnings": index.warnings, "container": index.container,
            "again": sum(1 for _ in decode_frames(path, index, index.frames // 2, index.frames))}}
except SourceError as error:
    seen = {{"code": error.code, "message": error.message}}
# Not ru_maxrss: a child starts with its parent's.
with open("/proc/self/status") as status:
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
seen["resident"] = int(peak) * 1024
print(json.dumps(seen))
"""


def _bad(name: str) -> Path:
    path = shared_dir() / "media" / "bad" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@cache
def _truth() -> dict[str, dict[str, Any]]:
    text = (shared_dir() / "media" / "truth.jsonl").read_text()
    return {row["file"].removeprefix("bad/"): row for row in map(json.loads, text.splitlines())}


def _look(path: Path, folder: Path) -> dict[str, Any]:
    """What a process of its own says about a file."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_every_file_of_the_folder_has_an_answer():
    assert {path.name for path in (shared_dir() / "media" / "bad").iterdir()} == set(ANSWERS)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_bad_file_gets_its_answer_in_bounded_time_and_memory(name, tmp_path):
    seen, answer = _look(_bad(name), tmp_path), ANSWERS[name]
    assert seen["resident"] < RESIDENT
    assert list(tmp_path.iterdir()) == []
    if isinstance(answer, Refused):
        assert seen["code"] == answer.code
        assert seen["message"].startswith("s3://in/x ")
        assert answer.words in seen["message"]
        return
    assert seen["frames"] == answer.frames == _truth()[name]["frames"]
    assert seen["again"] == answer.frames - answer.frames // 2
    assert answer.container in seen["container"].split(",")
    _check_warnings(answer, seen["warnings"])


def _check_warnings(answer: Taken, warnings: list[str]) -> None:
    assert len(warnings) == len(answer.warnings)
    assert all(w.startswith(begin) for w, begin in zip(warnings, answer.warnings, strict=True))


def test_the_times_of_pictures_lost_to_damage_are_listed():
    index = build_index(str(_bad("bitflips.mp4")), "x", Limits(), "digest")
    assert any("missing_pts=[9728, 47104]" in warning for warning in index.warnings)


def test_a_process_that_eats_memory_is_noticed(tmp_path):
    """The limits above would not be worth much if the looking process escaped them."""
    greedy = _LOOK.replace("try:", "hoard = bytearray(4 * 2**30)\ntry:", 1)
    assert greedy != _LOOK
    done = subprocess.run(
        [sys.executable, "-c", greedy, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "MemoryError" in done.stderr


def test_a_lying_header_and_a_lying_duration_change_nothing_of_the_index():
    honest = build_index(str(shared_dir() / "media/clips/truck_512_10fps.mp4"), "x", Limits(), "digest")
    for name in ("lying_duration_10h.mp4", "lying_header_65535.mp4"):
        assert build_index(str(_bad(name)), "x", Limits(), "digest") == honest


def test_three_frames_in_half_an_hour_keep_their_times():
    index = build_index(str(_bad("fps_1_per_10min.mp4")), "x", Limits(), "digest")
    assert [pts * index.time_base for pts in index.pts] == [0, 600, 1200]
    assert [step * index.time_base for step in index.durations] == [600, 600, 600]


@pytest.mark.slow
def test_a_batch_of_all_bad_files_quarantines_the_refused_and_publishes_the_rest(tmp_path):
    _bad("zero_byte.mp4")
    folder, out = shared_dir() / "media" / "bad", tmp_path / "out"
    summary = run(identity_job(str(folder / "*"), out))
    rows = {row["video_uri"].rpartition("/")[2]: row for row in _listed(out)}
    assert set(rows) == set(ANSWERS)
    assert (summary.done, summary.quarantined) == (len(TAKEN), len(REFUSED))
    refused = {name: row["code"] for name, row in rows.items() if row["status"] == "quarantined"}
    assert refused == {name: answer.code for name, answer in REFUSED.items()}
    assert all(rows[name]["error"] for name in REFUSED)
    published = {path.stem: path for path in (out / "videos").iterdir()}
    assert set(published) == {Path(name).stem for name in TAKEN}
    for name, answer in TAKEN.items():
        _check_published(name, answer, published[Path(name).stem], rows[name])


def _listed(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "manifests" / "videos.parquet").to_pylist()
    assert rows
    assert set(rows[0]) >= {"video_uri", "status", "code", "error", "frames", "warnings"}
    assert set(VideoRow.__dataclass_fields__) >= set(rows[0])
    return rows


def _check_published(name: str, answer: Taken, path: Path, row: dict[str, Any]) -> None:
    made, source = measure(str(path)), measure(str(_bad(name)))
    assert made.frames == row["frames"] == answer.frames, name
    assert made.decode_errors == 0, name
    assert made.frames_md5 == row["frames_md5"], name
    # What could not be decoded before the first key frame is not in the source's pictures either.
    assert [p * made.time_base for p in made.pts] == [p * source.time_base for p in source.pts], name
    # What the output lost comes after what is odd about the source.
    _check_warnings(answer, row["warnings"][: len(answer.warnings)])
    assert row["output_sha256"] == file_sha256(path), name
    assert json.loads(row["metrics"])["bytes"] == path.stat().st_size, name
    assert json.loads(row["versions"])["av"] == av.__version__, name
