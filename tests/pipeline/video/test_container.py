from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from pipeline.errors import SpecError
from pipeline.settings import EncodeSettings
from pipeline.video.container import choose_container, merges_in_milliseconds
from pipeline.video.types import StreamSummary
from tests.pipeline.video.media import index_of, make_clip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return index_of(make_clip(tmp_path_factory.mktemp("clip") / "a.mp4"))


def _with(index, *streams):
    others = tuple(StreamSummary(i + 1, kind, codec, False) for i, (kind, codec) in enumerate(streams))
    return replace(index, streams=(*index.streams, *others))


@pytest.mark.parametrize(
    ("streams", "codec", "expected"),
    [
        ([], "libx264", "mp4"),
        ([("audio", "aac"), ("subtitle", "mov_text"), ("data", "bin_data")], "libx264", "mp4"),
        ([("audio", "vorbis")], "libx264", "mkv"),
        ([("audio", "opus"), ("subtitle", "ass")], "libx264", "mkv"),
        ([("attachment", None)], "libx265", "mkv"),
        ([("audio", "aac")], "ffv1", "mkv"),
        ([("audio", "pcm_s16le")], "prores_ks", "mov"),
        ([("audio", "opus")], "prores_ks", "mkv"),
    ],
)
def test_mp4_is_taken_when_everything_fits_and_matroska_otherwise(index, streams, codec, expected):
    assert choose_container(_with(index, *streams), EncodeSettings(codec=codec)) == expected


def test_a_wish_is_granted_when_the_codec_fits(index):
    assert choose_container(index, EncodeSettings(container="mkv")) == "mkv"
    assert choose_container(index, EncodeSettings(codec="libvpx-vp9", container="webm")) == "webm"
    with pytest.raises(SpecError, match="webm cannot hold libx264"):
        choose_container(index, EncodeSettings(container="webm"))


def test_frames_closer_than_a_millisecond_stay_in_mp4(index):
    fine = replace(index, time_base=Fraction(1, 90_000), pts=tuple(range(0, 24 * 40, 40)))
    assert merges_in_milliseconds(fine)
    assert not merges_in_milliseconds(index)
    assert choose_container(_with(fine, ("audio", "vorbis")), EncodeSettings()) == "mp4"
    with pytest.raises(SpecError, match="merge frames"):
        choose_container(fine, EncodeSettings(container="mkv"))
    with pytest.raises(SpecError, match="use libx264"):
        choose_container(fine, EncodeSettings(codec="ffv1"))
