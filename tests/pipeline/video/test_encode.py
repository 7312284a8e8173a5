from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import ChunkError, SpecError
from pipeline.settings import EncodeSettings
from pipeline.video.decode import decode_frames
from pipeline.video.encode import encode_rgb_segment, encode_source_segment
from pipeline.video.encoders import choose_pix_fmt, plan_encoder
from pipeline.video.rgb import decode_rgb
from pipeline.video.side_data import read_first_frame
from pipeline.video.types import Hdr
from tests.pipeline.video.media import (
    LOSSLESS,
    LOSSY,
    Clip,
    all_hashes,
    chunked,
    identity,
    index_of,
    make_clip,
)

_CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")


def _fast(codec: str) -> EncodeSettings:
    return EncodeSettings(codec=codec, crf=30, preset="veryfast")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = make_clip(tmp_path_factory.mktemp("clip") / "a.mp4", Clip(cuts=(13,)))
    return path, index_of(path)


@pytest.mark.parametrize("chunk", [2, 3, 12, 100])
def test_pictures_do_not_depend_on_how_groups_share_segments(clip, tmp_path, chunk):
    path, index = clip
    one_by_one = identity(path, index, tmp_path / "one", LOSSY, chunk=1, gop=5)
    together = identity(path, index, tmp_path / "many", LOSSY, chunk=chunk, gop=5)
    assert all_hashes(together.segments) == all_hashes(one_by_one.segments)
    assert {s.extradata_md5 for s in together.segments} == {one_by_one.segments[0].extradata_md5}
    assert Path(together.output).read_bytes() == Path(one_by_one.output).read_bytes()


@pytest.mark.parametrize("codec", _CODECS)
def test_encoding_twice_gives_the_same_file(clip, tmp_path, codec):
    path, index = clip
    rgb = decode_rgb(path, index, range(12))
    twice = [
        encode_rgb_segment(str(tmp_path / f"{i}.mkv"), rgb, [5, 1, 2, 4], index, _fast(codec))
        for i in range(3)
    ]
    assert twice[0] == twice[1] == twice[2]
    assert twice[0].frames == len(twice[0].frame_hashes) == 12


@pytest.mark.parametrize("codec", _CODECS)
@pytest.mark.parametrize("frames", [1, 2])
def test_segments_of_one_or_two_frames_hold_them(clip, tmp_path, codec, frames):
    path, index = clip
    rgb = decode_rgb(path, index, range(frames))
    assert encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [frames], index, _fast(codec)).frames == frames


def test_eight_encodes_of_textured_pictures_with_x264_are_one(clip, tmp_path):
    _, index = clip
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 255, (12, 96, 160, 3), dtype=np.uint8)
    segments = {
        encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [12], index, EncodeSettings(crf=18))
        for _ in range(8)
    }
    assert len(segments) == 1


@pytest.mark.parametrize(
    "settings", [LOSSLESS, EncodeSettings(codec="ffv1"), replace(LOSSLESS, codec="libx265")]
)
def test_a_lossless_segment_of_source_frames_keeps_every_plane(clip, tmp_path, settings):
    path, index = clip
    frames = list(decode_frames(path, index, 0, 24))
    segment = encode_source_segment(str(tmp_path / "s.mkv"), frames, [10, 14], index, settings)
    source = encode_source_segment(str(tmp_path / "t.mkv"), frames, [24], index, EncodeSettings(codec="ffv1"))
    assert segment.frame_hashes == source.frame_hashes
    assert segment.pix_fmt == "yuv420p"


def test_every_group_starts_with_a_key_frame_and_nothing_else_does(clip, tmp_path):
    path, index = clip
    rgb = decode_rgb(path, index, range(24))
    encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [5, 12, 7], index, LOSSY)
    with av.open(str(tmp_path / "s.mkv")) as container:
        pts = sorted((p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size)
    assert [rank for rank, (_, key) in enumerate(pts) if key] == [0, 5, 17]
    assert {b - a for (a, _), (b, _) in pairwise(pts)} == {10}


def test_tags_go_into_the_stream_for_every_codec(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(tags=(2, 5, 1, 1), sar=Fraction(16, 11)))
    index = index_of(path)
    for codec in _CODECS:
        encode_rgb_segment(str(tmp_path / "s.mkv"), decode_rgb(path, index, [0, 1]), [2], index, _fast(codec))
        with av.open(str(tmp_path / "s.mkv")) as container:
            context = container.streams.video[0].codec_context
            assert (context.colorspace, context.color_primaries, context.color_trc) == (5, 1, 1), codec
            assert context.color_range == 2, codec


def test_super_resolution_keeps_the_aspect_and_uneven_scaling_corrects_it(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(sar=Fraction(4, 3))))
    assert plan_encoder(index, LOSSY, 256, 192).sample_aspect_ratio == Fraction(4, 3)
    assert plan_encoder(index, LOSSY, 128, 48).sample_aspect_ratio == Fraction(2, 3)
    segment = encode_rgb_segment(
        str(tmp_path / "s.mkv"), np.zeros((2, 192, 256, 3), np.uint8), [2], index, LOSSY
    )
    assert (segment.width, segment.height) == (256, 192)


def test_ten_bits_stay_ten_bits(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(pix_fmt="yuv420p10le"))
    index = index_of(path)
    rgb = decode_rgb(path, index, range(3))
    for codec in ("libx264", "libx265", "libsvtav1", "ffv1"):
        assert (
            encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [3], index, _fast(codec)).pix_fmt
            == "yuv420p10le"
        )


@pytest.mark.parametrize(
    ("codec", "source", "size", "expected"),
    [
        ("libx264", "yuvj420p", (64, 48), "yuv420p"),
        ("libx264", "yuv420p", (161, 121), "yuv444p"),
        ("libx265", "yuv420p10le", (160, 121), "yuv444p10le"),
        ("libsvtav1", "yuv420p", (161, 121), "yuv420p"),
        ("libx264", "yuv420p12le", (64, 48), "yuv420p10le"),
        ("libx265", "yuv420p12le", (64, 48), "yuv420p12le"),
        ("libx264", "yuva444p", (64, 48), "yuv444p"),
        ("libx264", "yuv411p", (64, 48), "yuv422p"),
        ("libx264", "rgb24", (64, 48), "yuv444p"),
        ("libx264", "gray", (64, 48), "gray"),
        ("libsvtav1", "yuv444p", (64, 48), "yuv420p"),
        ("libvpx-vp9", "yuv420p10le", (64, 48), "yuv420p"),
        ("prores_ks", "yuv420p", (64, 48), "yuv422p10le"),
        ("ffv1", "yuv422p16le", (64, 48), "yuv422p16le"),
        ("ffv1", "pal8", (64, 48), "yuv444p"),
    ],
)
def test_the_pixel_format_is_the_nearest_that_loses_least(codec, source, size, expected):
    assert choose_pix_fmt(codec, source, *size) == expected


@pytest.mark.parametrize(("order", "flag"), [(2, "tff"), (3, "bff"), (0, "tff")])
def test_interlaced_pictures_stay_flagged_and_lossless_stays_lossless(tmp_path, order, flag):
    path = make_clip(tmp_path / "a.mp4", Clip(options={"x264-params": "bff=1:keyint=8"}))
    index = replace(index_of(path), field_order=order)
    assert index.interlaced_frames == index.frames
    assert plan_encoder(index, LOSSLESS, 64, 48).fields == flag
    assert plan_encoder(index, LOSSLESS, 128, 96).fields == "prog"
    trip = identity(path, index, tmp_path / "work", LOSSLESS)
    reference = identity(path, index, tmp_path / "reference", EncodeSettings(codec="ffv1"))
    assert all_hashes(trip.segments) == all_hashes(reference.segments)
    with av.open(trip.output) as container:
        stream = container.streams.video[0]
        assert all(frame.interlaced_frame for frame in container.decode(stream))
        assert stream.codec_context.field_order == (3 if flag == "bff" else 2)


def test_odd_sizes_are_encoded_without_cropping(clip, tmp_path):
    _, index = clip
    rgb = np.full((2, 31, 45, 3), 90, np.uint8)
    rgb.flags.writeable = False  # as arrays arrive from shared memory
    segment = encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [2], index, LOSSY)
    assert (segment.width, segment.height, segment.pix_fmt) == (45, 31, "yuv444p")


def test_static_hdr_metadata_is_written_by_the_encoders_that_can(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pix_fmt="yuv420p10le", tags=(1, 9, 9, 16))))
    mastering = ((34000, 50000), (16000, 50000), (13250, 50000), (34500, 50000), (7500, 50000), (3000, 50000),
                 (15635, 50000), (16450, 50000), (50, 10000), (10000000, 10000))  # fmt: skip
    index = replace(index, hdr=Hdr(mastering, (1000, 400)))
    for codec in ("libx264", "libx265", "libsvtav1"):
        encode_rgb_segment(
            str(tmp_path / "s.mkv"), np.zeros((2, 64, 64, 3), np.uint16), [2], index, _fast(codec)
        )
        with av.open(str(tmp_path / "s.mkv")) as container:
            found = read_first_frame(next(container.decode(video=0))).hdr
        assert found is not None, codec
        assert found.content_light == (1000, 400)
        luminance = [Fraction(*pair) for pair in (found.mastering or ())[8:]]
        assert luminance[1] == 1000, codec


def test_wrong_use_and_unknown_codecs_are_told_apart(clip, tmp_path):
    path, index = clip
    rgb = decode_rgb(path, index, range(4))
    name = str(tmp_path / "s.mkv")
    with pytest.raises(ValueError, match="4 frames"):
        encode_rgb_segment(name, rgb, [3], index, LOSSY)
    with pytest.raises(ValueError, match="uint8"):
        encode_rgb_segment(name, rgb.astype(np.float32), [4], index, LOSSY)
    with pytest.raises(SpecError, match=r"encode\.codec"):
        encode_rgb_segment(name, rgb, [4], index, EncodeSettings(codec="libxvid"))
    with pytest.raises(SpecError, match=r"encode\.preset"):
        encode_rgb_segment(name, rgb, [4], index, EncodeSettings(codec="libsvtav1", preset="warp"))
    with pytest.raises(ChunkError) as caught:
        encode_rgb_segment(str(tmp_path / "no" / "s.mkv"), rgb, [4], index, LOSSY)
    assert caught.value.code == "encode_failed"


def test_too_few_and_too_many_source_frames_are_noticed(clip, tmp_path):
    path, index = clip
    frames = list(decode_frames(path, index, 0, 4))
    with pytest.raises(ChunkError, match="4 frames"):
        encode_source_segment(str(tmp_path / "s.mkv"), frames[:3], [4], index, LOSSY)
    with pytest.raises(ValueError, match="more frames"):
        encode_source_segment(str(tmp_path / "s.mkv"), frames, [3], index, LOSSY)


def test_chunks_of_the_test_support_cover_a_video_once():
    assert chunked(7, 2, 3) == [(0, 6, [3, 3]), (6, 7, [1])]
