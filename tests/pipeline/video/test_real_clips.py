"""Real clips of the shared data folder against measured truth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipeline.errors import SourceError
from pipeline.settings import EncodeSettings, Limits
from pipeline.video.decode import decode_frames
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.planes import hash64
from pipeline.video.types import VideoIndex
from pipeline.video.verify import verify_file, verify_output
from tests.pipeline.video.media import LOSSLESS, all_hashes, identity
from tests.support.shared import shared_dir

QUICK = (
    "clips/attachment.mkv", "clips/bbb_vp8_vorbis.webm", "clips/bikes.mp4", "clips/bt601.mov",
    "clips/bt709_full_range.mp4", "clips/corrupted_one_packet.mp4", "clips/cover_art.mp4",
    "clips/delayed_start.mp4", "clips/fire_vfr_rot180.mp4", "clips/h265_leading_pics.mp4",
    "clips/hdr10_rot_chapters_attach.mkv", "clips/hdr10plus_259f.mkv", "clips/interlaced_h264_ac3_sar.mp4",
    "clips/mpeg2_1080_gap.ts", "clips/nasa_2v2a2s.mp4", "clips/rot90.mov", "clips/sar16_11_aac.mp4",
    "clips/tiny_1x1.mp4", "clips/truck_512_10fps.mp4", "clips/vp9_10bit_hidden_frames.webm",
    "clips/vp9_alpha.webm", "clips/webvtt.mkv", "clips/wolf_512.mp4",
    "derived/full_features_opengop10.mkv", "derived/pal_interlaced_tff_opengop.mkv",
    "derived/slideshow_vfr_4f.mp4",
    "bad/-dash ünï ☃ 'q' %20.mp4", "bad/all_black_300f.mp4", "bad/bitflips.mp4", "bad/fps_1_per_10min.mp4",
    "bad/lying_duration_10h.mp4", "bad/lying_header_65535.mp4", "bad/one_frame.mp4", "bad/pts_jump.mkv",
    "bad/really_webm.mp4", "bad/starts_mid_gop.ts", "bad/ts_33bit_wrap.ts",
)  # fmt: skip
LONG = (
    "clips/bbb_720p_aac.mp4", "clips/chaplin_mp3.mp4", "clips/cockatoo_444_mp3.mp4",
    "clips/editlist_video_late_1s.mp4", "clips/gopro_gpmf_tmcd.mp4", "clips/hlg10_dv_rot_opengop.mp4",
    "clips/talk_42s_aac.mp4", "clips/traffic_vfr.mp4", "derived/multiscene_known_cuts.mp4",
    "derived/one_keyframe_900f.mp4",
)  # fmt: skip
INDEXED = (*QUICK, "clips/vp9_161x121.webm")
REFUSED = {
    "audio_only.mp4": "no_video_stream",
    "bomb_12000x12000_png.mkv": "too_many_pixels",
    "cover_only.m4a": "no_video_stream",
    "encrypted_cenc.mp4": "encrypted",
    "header_only.mp4": "no_frames",
    "negative_start.mkv": "pts_missing",
    "playlist_file_url.mp4": "not_a_video",
    "png_named.mp4": "still_image",
    "random_4k.mp4": "not_a_video",
    "raw_no_pts.h264": "no_timestamps",
    "resolution_change_h264.ts": "resolution_change",
    "s3_error_page.mp4": "not_a_video",
    "truncated_faststart.mp4": "truncated",
    "truncated_no_moov.mp4": "no_moov",
    "zero_byte.mp4": "empty",
}
WARNED = {
    "bad/bitflips.mp4": "decode_errors=2",
    "bad/pts_jump.mkv": "pts_gap: 93.650 s",
    "bad/starts_mid_gop.ts": "leading_packets_undecodable=45",
    "clips/corrupted_one_packet.mp4": "decode_errors=1",
    "clips/hdr10plus_259f.mkv": "pq_transfer",
    "clips/interlaced_h264_ac3_sar.mp4": "interlaced_frames=21",
    "clips/nasa_2v2a2s.mp4": "multiple_video_streams: stream 0 is processed, not 3",
    "clips/vp9_alpha.webm": "alpha_dropped",
}


def _media(name: str) -> str:
    path = shared_dir() / "media" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return str(path)


@lru_cache
def _truth() -> dict[str, dict[str, Any]]:
    text = (shared_dir() / "media" / "truth.jsonl").read_text()
    return {row["file"]: row for row in map(json.loads, text.splitlines())}


@lru_cache
def _index(name: str) -> VideoIndex:
    return build_index(_media(name), name, Limits(), "digest")


@pytest.mark.parametrize("name", INDEXED)
def test_the_index_agrees_with_the_measured_truth(name):
    index, truth = _index(name), _truth()[name]
    assert index.frames == truth["frames"]
    assert hashlib.sha256(",".join(map(str, index.pts)).encode()).hexdigest()[:16] == truth["pts_sha256"]
    assert str(index.time_base) == truth["time_base"]
    assert index.decode_errors == truth["decode_errors"]
    assert index.interlaced_frames == truth["interlaced_frames"]
    width, height, pix_fmt = truth["sizes"][0]
    assert (index.geometry.width, index.geometry.height, index.pix_fmt) == (width, height, pix_fmt)
    assert index_from_bytes(index_to_bytes(index)) == index


@pytest.mark.parametrize("name", INDEXED)
def test_frames_reached_by_seeking_are_those_of_the_linear_decode(name):
    index = _index(name)
    for a in np.random.default_rng(11).integers(0, index.frames, 5):
        b = min(int(a) + 3, index.frames)
        frames = list(decode_frames(_media(name), index, int(a), b))
        assert [f.pts for f in frames] == list(index.pts[a:b])
        assert [hash64(f) for f in frames] == list(index.frame_hashes[a:b])


@pytest.mark.parametrize("name", sorted(WARNED))
def test_what_is_odd_about_a_clip_is_said(name):
    assert any(warning.startswith(WARNED[name]) for warning in _index(name).warnings)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_hostile_or_broken_file_is_refused_with_its_code(name):
    with pytest.raises(SourceError) as caught:
        build_index(_media(f"bad/{name}"), f"s3://in/{name}", Limits(), "digest")
    assert caught.value.code == REFUSED[name]
    assert caught.value.message.startswith(f"s3://in/{name}")


def test_two_frames_at_the_same_time_are_refused_by_ordinal():
    with pytest.raises(SourceError) as caught:
        build_index(_media("clips/mpeg2_bff_opengop.mpg"), "x.mpg", Limits(), "digest")
    assert caught.value.code == "duplicate_pts"
    assert caught.value.facts["frame"] == 352


def _check_identity(name, folder):
    index, path = _index(name), _media(name)
    trip = identity(path, index, folder, LOSSLESS, chunk=4)
    found = verify_file(
        trip.output, path, index, trip.segments, trip.assembly, LOSSLESS, identity=True
    )
    measured = found.measured
    assert found.problems == ()
    assert found.checks["V6_lossless"] == "ok"
    assert measured.frames_md5 == _truth()[name]["frames_md5"]
    if trip.output.endswith("mp4"):
        assert [p * measured.time_base for p in measured.pts] == [p * index.time_base for p in index.pts]


@pytest.mark.parametrize("name", QUICK)
def test_the_identity_job_keeps_a_real_clip_bit_for_bit(name, tmp_path):
    _check_identity(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_the_identity_job_keeps_a_long_clip_bit_for_bit(name, tmp_path):
    _check_identity(name, tmp_path)


def test_odd_sizes_survive_with_a_codec_that_takes_them(tmp_path):
    index, path = _index("clips/vp9_161x121.webm"), _media("clips/vp9_161x121.webm")
    trip = identity(path, index, tmp_path, EncodeSettings(codec="ffv1"))
    measured, problems = verify_output(trip.output, path, index, trip.segments, trip.assembly)
    assert problems == ()
    assert measured.frames_md5 == _truth()["clips/vp9_161x121.webm"]["frames_md5"]


@pytest.mark.parametrize("name", ["clips/vp9_10bit_hidden_frames.webm", "clips/truck_512_10fps.mp4"])
def test_a_lossy_output_does_not_depend_on_the_chunking(name, tmp_path):
    index, path = _index(name), _media(name)
    settings = EncodeSettings(crf=18, preset="veryfast")
    runs = [identity(path, index, tmp_path / str(c), settings, chunk=c, gop=6) for c in (1, 2, 3, 12, 1000)]
    digests = {tuple(all_hashes(run.segments)) for run in runs}
    assert len(digests) == 1
    outputs = {verify_output(r.output, path, index, r.segments, r.assembly)[0].frames_md5 for r in runs}
    assert len(outputs) == 1


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_cover_art_goes_along_in_the_form_the_container_knows(tmp_path, container):
    index, path = _index("clips/cover_art.mp4"), _media("clips/cover_art.mp4")
    trip = identity(path, index, tmp_path, replace(LOSSLESS, container=container), chunk=9)
    assert verify_output(trip.output, path, index, trip.segments, trip.assembly)[1] == ()
    assert trip.assembly.dropped_streams == ()
    with av.open(trip.output) as out:
        covers = [s for s in out.streams if s.disposition & Disposition.attached_pic]
        assert len(covers) == 1
        # FFmpeg shows a Matroska picture attachment as an attached picture.
        assert covers[0].codec_context.codec.name == "png"


def test_subtitles_of_mp4_become_text_subtitles_in_matroska(tmp_path):
    name = "clips/nasa_2v2a2s.mp4"
    index, path = _index(name), _media(name)
    trip = identity(path, index, tmp_path, replace(LOSSLESS, container="mkv"), chunk=9)
    assert verify_output(trip.output, path, index, trip.segments, trip.assembly)[1] == ()
    assert len(trip.assembly.copied) == 4
    assert trip.assembly.dropped_streams == (
        "stream 3 video h264: a second video stream with an edit list cannot go into mkv",
    )


@pytest.mark.slow
def test_every_known_cut_is_found_even_scenes_of_one_and_two_frames():
    path = _media("derived/multiscene_known_cuts.mp4")
    rows = Path(path + ".cuts.tsv").read_text().splitlines()[1:]
    known = {int(row.split("\t")[1]) for row in rows}
    assert known <= set(_index("derived/multiscene_known_cuts.mp4").cuts)
