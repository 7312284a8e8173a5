"""NVENC without NVIDIA: what the encoders are told, and how a machine without one refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from av.codec import Codec
from av.video.reformatter import VideoReformatter

from pipeline.encoder_check import check_encode
from pipeline.errors import SpecError
from pipeline.settings import ClusterSettings, EncodeSettings, JobSettings
from pipeline.video.colour import convert_frame, rgb_to_frame
from pipeline.video.container import choose_container
from pipeline.video.encoders import plan_encoder
from pipeline.video.nvenc import NVENC, UNAVAILABLE, check_encoder, nvenc_options, nvenc_pix_fmt
from pipeline.video.planes import clean_copy, plane_bytes
from tests.pipeline.video.media import Clip, index_of, make_clip


def has_nvenc(codec: str) -> bool:
    try:
        check_encoder(codec)
    except SpecError:
        return False
    return True


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory):
    return index_of(make_clip(tmp_path_factory.mktemp("nvenc") / "a.mp4", Clip(tags=(1, 1, 1, 1))))


@pytest.mark.parametrize("codec", NVENC)
def test_a_machine_without_a_driver_refuses_by_field_and_names_a_software_codec(codec):
    if has_nvenc(codec):
        pytest.skip("this machine has NVENC")
    words = r"no usable NVENC device or driver.*use lib(x264|x265|svtav1)"
    with pytest.raises(SpecError, match=words) as caught:
        check_encoder(codec)
    assert (caught.value.field, caught.value.facts["code"]) == ("encode.codec", UNAVAILABLE)


def test_only_a_local_job_opens_the_encoder_before_work():
    if has_nvenc("h264_nvenc"):
        pytest.skip("this machine has NVENC")
    encode = EncodeSettings(codec="h264_nvenc")
    job = JobSettings(name="a", seed=1, source=("a.mp4",), output="out", encode=encode)
    check_encode(replace(job, cluster=ClusterSettings(address="ray://somewhere:10001")))
    with pytest.raises(SpecError, match=r"^encode\.codec"):
        check_encode(replace(job, cluster=ClusterSettings(address="local")))


def test_software_codecs_are_not_opened():
    check_encoder("libx264")


@pytest.mark.parametrize("codec", NVENC)
def test_the_plan_asks_for_a_constant_quantizer_closed_groups_and_the_sources_tags(codec, index):
    plan = plan_encoder(index, EncodeSettings(codec=codec, crf=20, preset="slow"), 64, 48)
    options = dict(plan.options)
    assert (options["rc"], options["preset"], options["bf"]) == ("constqp", "p5", "0")
    assert options["qp"] == ("80" if codec == "av1_nvenc" else "20")
    assert (options["forced-idr"], options["rc-lookahead"]) == ("1", "0")
    assert (plan.colour.matrix, plan.colour.primaries) == (1, 1)
    assert choose_container(index, EncodeSettings(codec=codec)) == "mp4"


def test_quantizer_zero_is_lossless_where_the_codec_can():
    assert nvenc_options("hevc_nvenc", 0, "medium")["tune"] == "lossless"
    assert "qp" not in nvenc_options("h264_nvenc", 0, "medium")
    assert nvenc_options("av1_nvenc", 0, "medium")["qp"] == "0"
    with pytest.raises(SpecError, match=r"^encode\.preset"):
        nvenc_options("h264_nvenc", 18, "warp")


@pytest.mark.parametrize(
    ("codec", "source", "size", "wanted"),
    [
        ("h264_nvenc", "yuv420p", (64, 48), "yuv420p"),
        ("h264_nvenc", "yuv420p10le", (64, 48), "yuv420p"),
        ("h264_nvenc", "yuv422p", (64, 48), "yuv444p"),
        ("h264_nvenc", "gray", (64, 48), "yuv420p"),
        ("h264_nvenc", "yuv420p", (63, 48), "yuv444p"),
        ("h264_nvenc", "rgb24", (64, 48), "yuv444p"),
        ("hevc_nvenc", "yuv420p10le", (64, 48), "p010le"),
        ("hevc_nvenc", "yuv422p10le", (64, 48), "yuv444p16le"),
        ("av1_nvenc", "yuv444p10le", (64, 48), "p010le"),
    ],
)
def test_each_source_gets_a_format_that_the_encoder_offers(codec, source, size, wanted):
    assert nvenc_pix_fmt(codec, source, *size) == wanted
    assert wanted in {f.name for f in Codec(codec, "w").video_formats or ()}


def test_ten_bit_pictures_reach_the_encoders_own_layout_whole(tmp_path):
    index = index_of(make_clip(tmp_path / "d.mp4", Clip(pix_fmt="yuv420p10le", tags=(1, 9, 9, 16))))
    rgb = np.random.default_rng(3).integers(0, 65536, (48, 64, 3), np.uint16)
    reformatter = VideoReformatter()
    planar = rgb_to_frame(rgb, index.colour, "yuv420p10le", reformatter)
    packed = rgb_to_frame(rgb, index.colour, "p010le", reformatter)
    back = convert_frame(clean_copy(packed, "p010le"), index.colour, "yuv420p10le", reformatter)
    assert plane_bytes(back) == plane_bytes(planar)
    again = convert_frame(planar, index.colour, "p010le", reformatter)
    assert plane_bytes(again) == plane_bytes(packed)
    assert plane_bytes(again)[:2] != b"\0\0"
    assert index.time_base == Fraction(1, 12_800)
