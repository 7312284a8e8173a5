from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.settings import Limits
from pipeline.video.probe import probe
from tests.pipeline.video.media import Clip, make_clip, picture

URI = "s3://catalog/in/x.mp4"


def _refusal(path: Path, limits: Limits | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        probe(str(path), URI, limits or Limits())
    assert caught.value.message.startswith(URI)
    return caught.value


def test_a_probe_tells_what_the_header_says(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(audio="aac", tags=(1, 1, 1, 1), sar=Fraction(16, 11)))
    facts = probe(path, URI, Limits())
    assert facts.codec == "h264"
    assert [s.kind for s in facts.streams] == ["video", "audio"]
    assert (facts.stream, facts.pix_fmt, facts.bit_depth) == (0, "yuv420p", 8)
    assert (facts.geometry.width, facts.geometry.height) == (64, 48)
    assert facts.geometry.sample_aspect_ratio == Fraction(16, 11)
    assert facts.colour.matrix_origin == "source"
    assert facts.warnings == ()


def test_the_content_and_not_the_name_decides_the_container(tmp_path):
    clip = Clip(codec="libvpx-vp9", time_base=Fraction(1, 1000), pts=range(0, 400, 40))
    make_clip(tmp_path / "a.webm", clip)
    (tmp_path / "a.webm").rename(tmp_path / "really.mp4")
    assert "webm" in probe(str(tmp_path / "really.mp4"), URI, Limits()).container


@pytest.mark.parametrize("name", ["-i.mp4", "a b'c\"%20 ☃.mp4", "concat:a|b.mp4", "http:x.mp4"])
def test_strange_file_names_are_only_names(tmp_path, name, monkeypatch):
    make_clip(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(name, URI, Limits()).codec == "h264"


def test_an_empty_file_is_refused_as_empty(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    assert _refusal(tmp_path / "x").code == "empty"


def test_a_missing_file_is_refused_as_unreadable(tmp_path):
    assert _refusal(tmp_path / "nowhere").code == "unreadable"


@pytest.mark.parametrize(
    "content",
    [
        b"<Error><Code>AccessDenied</Code></Error>",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile 'a.mp4'\n",
        bytes(np.random.default_rng(3).integers(0, 255, 4096, dtype=np.uint8)),
    ],
    ids=["error page", "playlist", "concat list", "noise"],
)
def test_what_is_not_a_video_is_refused_and_no_file_it_names_is_opened(tmp_path, content):
    make_clip(tmp_path / "a.mp4")
    (tmp_path / "x.mp4").write_bytes(content)
    assert _refusal(tmp_path / "x.mp4").code == "not_a_video"


def test_a_picture_named_as_a_video_is_a_still_image(tmp_path):
    image = av.VideoFrame.from_ndarray(picture(0, 64, 48), "rgb24")
    image.save(str(tmp_path / "x.png"))
    (tmp_path / "x.png").rename(tmp_path / "x.mp4")
    assert _refusal(tmp_path / "x.mp4").code == "still_image"


def test_a_file_with_sound_only_has_no_video_stream(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 9000), np.float32), "fltp", "stereo")
        frame.sample_rate = 48_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert _refusal(tmp_path / "x.mp4").code == "no_video_stream"


def test_an_mp4_cut_before_its_index_is_named_as_such(tmp_path):
    data = Path(make_clip(tmp_path / "a.mp4")).read_bytes()
    (tmp_path / "x.mp4").write_bytes(data[: len(data) // 2])
    assert _refusal(tmp_path / "x.mp4").code == "no_moov"


def test_a_raw_stream_has_no_timestamps(tmp_path):
    make_clip(tmp_path / "x.h264")
    assert _refusal(tmp_path / "x.h264").code == "no_timestamps"


def test_pictures_above_the_limit_are_refused_with_the_limit_named(tmp_path):
    make_clip(tmp_path / "x.mp4")
    refusal = _refusal(tmp_path / "x.mp4", Limits(max_pixels=64 * 48 - 1))
    assert refusal.code == "too_many_pixels"
    assert "limits.max_pixels = 3071" in refusal.message


def test_videos_above_the_limit_of_time_are_refused(tmp_path):
    make_clip(tmp_path / "x.mp4")
    assert _refusal(tmp_path / "x.mp4", Limits(max_seconds=0.5)).code == "too_long"


def test_more_frames_than_allowed_are_refused_before_any_is_decoded(tmp_path):
    make_clip(tmp_path / "x.mp4")
    refusal = _refusal(tmp_path / "x.mp4", Limits(max_frames=23))
    assert (refusal.code, "lists 24 frames" in refusal.message) == ("too_many_frames", True)
    assert probe(str(tmp_path / "x.mp4"), URI, Limits(max_frames=24))


def test_more_streams_than_allowed_are_refused(tmp_path):
    make_clip(tmp_path / "x.mp4", Clip(audio="aac"))
    refusal = _refusal(tmp_path / "x.mp4", Limits(max_streams=1))
    assert refusal.code == "too_many_streams"
    assert "limits.max_streams = 1" in refusal.message


def test_the_first_of_several_video_streams_is_taken_with_a_warning(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as out:
        streams = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(4):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(i, 64, 48), "rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    facts = probe(str(tmp_path / "x.mp4"), URI, Limits())
    assert facts.stream == 0
    assert facts.warnings == ("multiple_video_streams: stream 0 is processed, not 1",)
