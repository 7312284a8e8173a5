"""Real clips cut into segments of 1, 2, 3, 12, 48 and all frames: the same file comes out each time.

Lossless identity over every file of ``clips`` and ``derived`` whose answer is not a refusal.
"""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from functools import cache
from typing import Any

import av
import pytest

from pipeline.settings import EncodeSettings, Limits
from pipeline.video.index import build_index
from pipeline.video.types import Measured, VideoIndex
from pipeline.video.verify import verify_output
from tests.pipeline.video.media import LOSSLESS, all_hashes, identity
from tests.support.shared import shared_dir

ALL = 1_000_000
SIZES = (1, 2, 3, 12, 48, ALL)
SHORT = {  # frames
    "clips/attachment.mkv": 60, "clips/bbb_vp8_vorbis.webm": 24, "clips/bt601.mov": 30,
    "clips/bt709_full_range.mp4": 30, "clips/corrupted_one_packet.mp4": 49, "clips/cover_art.mp4": 60,
    "clips/delayed_start.mp4": 24, "clips/fire_vfr_rot180.mp4": 25, "clips/h265_leading_pics.mp4": 10,
    "clips/hdr10_rot_chapters_attach.mkv": 10, "clips/interlaced_h264_ac3_sar.mp4": 21,
    "clips/mpeg2_1080_gap.ts": 58, "clips/rot90.mov": 3, "clips/tiny_1x1.mp4": 5,
    "clips/truck_512_10fps.mp4": 21, "clips/vp9_161x121.webm": 30, "clips/webvtt.mkv": 40,
    "clips/wolf_512.mp4": 40, "derived/slideshow_vfr_4f.mp4": 4,
}  # fmt: skip
LONG = {
    "clips/bbb_720p_aac.mp4": 132, "clips/bikes.mp4": 250, "clips/chaplin_mp3.mp4": 241,
    "clips/cockatoo_444_mp3.mp4": 280, "clips/editlist_video_late_1s.mp4": 270,
    "clips/gopro_gpmf_tmcd.mp4": 362, "clips/hdr10plus_259f.mkv": 259,
    "clips/hlg10_dv_rot_opengop.mp4": 100, "clips/nasa_2v2a2s.mp4": 325, "clips/sar16_11_aac.mp4": 202,
    "clips/traffic_vfr.mp4": 576, "clips/vp9_10bit_hidden_frames.webm": 72, "clips/vp9_alpha.webm": 150,
    "derived/full_features_opengop10.mkv": 132, "derived/one_keyframe_900f.mp4": 900,
    "clips/long_6min_av1_60fps.mp4": 21_766, "clips/talk_42s_aac.mp4": 1272,
    "derived/multiscene_known_cuts.mp4": 1094, "derived/pal_interlaced_tff_opengop.mkv": 125,
}  # fmt: skip
#: Two frames at one time; `test_real_clips` has the refusal.
REFUSED = {"clips/mpeg2_bff_opengop.mpg"}
#: Stored in 4:2:0 with an odd size, which H.264 cannot hold.
ODD = {"clips/vp9_161x121.webm"}


def _cases() -> list[Any]:
    cases = [(name, size, False) for name, frames in SHORT.items() for size in _useful(frames)]
    cases += [(name, size, True) for name in LONG for size in SIZES]
    return [
        pytest.param(name, size, marks=[pytest.mark.slow] if slow else [], id=f"{name}-{_word(size)}")
        for name, size, slow in cases
    ]


def _useful(frames: int) -> list[int]:
    """Sizes that cut a clip of so many frames differently."""
    return [*(size for size in SIZES if size < frames), ALL]


def _word(size: int) -> str:
    return "all" if size == ALL else str(size)


def _media(name: str) -> str:
    path = shared_dir() / "media" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return str(path)


@cache
def _index(name: str) -> VideoIndex:
    return build_index(_media(name), name, Limits(), "digest")


@cache
def _truth() -> dict[str, dict[str, Any]]:
    text = (shared_dir() / "media" / "truth.jsonl").read_text()
    return {row["file"]: row for row in map(json.loads, text.splitlines())}


def _sounds(path: str) -> list[tuple[int, str]]:
    """Number of packets and digest of their bytes for every audio stream."""
    found = {}
    with av.open(path) as container:
        streams = container.streams.audio
        for packet in container.demux(streams) if streams else ():
            packets, digest = found.setdefault(packet.stream_index, (0, hashlib.sha256()))
            digest.update(bytes(packet))
            found[packet.stream_index] = packets + (packet.size > 0), digest
    return [(packets, digest.hexdigest()) for _, (packets, digest) in sorted(found.items())]


def test_every_clip_of_the_folder_is_tried_or_known_to_be_refused():
    media = shared_dir() / "media"
    files = {f"{p.parent.name}/{p.name}" for k in ("clips", "derived") for p in (media / k).iterdir()}
    files = {name for name in files if not name.endswith(".tsv")}
    assert files == {*SHORT, *LONG, *REFUSED}
    frames = {**SHORT, **LONG}
    assert frames == {name: _truth()[name]["frames"] for name in frames}


@pytest.mark.parametrize(("name", "size"), _cases())
def test_segments_of_any_size_join_to_the_pictures_times_and_sound_of_the_source(name, size, tmp_path):
    path, index = _media(name), _index(name)
    settings = EncodeSettings(codec="ffv1") if name in ODD else LOSSLESS
    trip = identity(path, index, tmp_path, settings, chunk=1, gop=min(size, index.frames))
    assert [s.frames for s in trip.segments[:-1]] == [size] * (len(trip.segments) - 1)
    assert tuple(all_hashes(trip.segments)) == index.frame_hashes
    measured, problems = verify_output(trip.output, path, index, trip.segments, trip.assembly)
    assert problems == ()
    assert measured.frames_md5 == _truth()[name]["frames_md5"]
    assert _sounds(trip.output) == _sounds(path)
    _check_times(trip.output, measured, index)


def _check_times(output: str, measured: Measured, index: VideoIndex) -> None:
    moved = [
        out * measured.time_base - pts * index.time_base
        for out, pts in zip(measured.pts, index.pts, strict=True)
    ]
    if output.endswith((".mp4", ".mov")):
        assert set(moved) == {0}
    else:
        # Matroska rounds to milliseconds, and moves everything when the sound starts before zero.
        assert max(moved) - min(moved) <= Fraction(1, 1000)
        assert moved[0] >= 0 or abs(moved[0]) <= Fraction(1, 2000)
