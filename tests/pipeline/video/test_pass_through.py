"""Copies: what they are called, and that they are proven rather than believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.catalog import output_extensions
from pipeline.keys import file_sha256
from pipeline.settings import Limits
from pipeline.video.copy_name import COPY_EXTENSIONS, copy_extension
from pipeline.video.index import build_index
from pipeline.video.pass_through import verify_copy
from pipeline.video.types import StreamSummary, VideoIndex
from tests.pipeline.video.media import Clip, index_of, make_clip
from tests.support.shared import shared_dir


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, VideoIndex]:
    path = make_clip(tmp_path_factory.mktemp("copy") / "a.mp4", Clip(audio="aac"))
    return path, build_index(path, path, Limits(), file_sha256(path))


@pytest.mark.parametrize(
    ("container", "codecs", "name", "ending"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", ("h264",), "a.MOV", "mov"),
        ("mov,mp4,m4a,3gp,3g2,mj2", ("h264",), "a.m4v", "m4v"),
        ("mov,mp4,m4a,3gp,3g2,mj2", ("h264",), "a.avi", "mp4"),
        ("mov,mp4,m4a,3gp,3g2,mj2", ("h264",), "noending", "mp4"),
        ("matroska,webm", ("vp9", "opus"), "really_webm.mp4", "webm"),
        ("matroska,webm", ("vp9", "opus"), "a.mkv", "mkv"),
        ("matroska,webm", ("h264", "aac"), "a.webm", "mkv"),
        ("matroska,webm", ("h264", "aac"), "a.mp4", "mkv"),
        ("mpegts", ("mpeg2video",), "a.m2ts", "m2ts"),
        ("mpegts", ("h264",), "a.mp4", "ts"),
        ("mpeg", ("mpeg2video",), "a.mpg", "mpg"),
        ("avi", ("mpeg4",), "s3://b/deep/a.avi", "avi"),
        ("never_heard_of", ("x",), "a.xyz", "video"),
    ],
)
def test_the_ending_comes_from_the_content_and_keeps_the_own_one_where_it_fits(
    clip: tuple[str, VideoIndex], container: str, codecs: tuple[str, ...], name: str, ending: str
) -> None:
    streams = tuple(StreamSummary(i, "video", codec, False) for i, codec in enumerate(codecs))
    index = replace(clip[1], container=container, streams=streams)
    assert copy_extension(name, index) == ending
    assert ending in COPY_EXTENSIONS


def test_only_copies_may_get_endings_beyond_the_four_containers() -> None:
    assert "ts" not in output_extensions("libx264")
    assert {"mp4", "mkv", "ts", "avi"} <= set(output_extensions("copy"))


def test_a_copy_passes_every_check(clip: tuple[str, VideoIndex]) -> None:
    found = verify_copy(*clip)
    assert found.problems == ()
    assert next(iter(found.checks)) == "V1_streams"
    assert found.checks["V3_pictures"] == found.checks["V8_object"] == "ok"
    assert found.object.encoder == "copy"
    assert found.measured.frames == clip[1].frames


def test_other_bytes_other_times_and_other_pictures_do_not_pass(
    clip: tuple[str, VideoIndex], tmp_path: Path
) -> None:
    path, index = clip
    pts = (*Clip().pts[:-1], Clip().pts[-1] + 1)
    other = make_clip(tmp_path / "b.mp4", Clip(pts=pts, cuts=(3,), audio="aac"))
    found = verify_copy(other, index)
    assert len(found.problems) == 3
    wrong = verify_copy(path, replace(index, source_digest="0" * 64))
    assert wrong.problems == ("its bytes are not the source's",)


def test_damage_the_source_has_is_copied_and_counted(tmp_path: Path) -> None:
    path = shared_dir() / "media" / "clips" / "corrupted_one_packet.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    index = build_index(str(path), str(path), Limits(), file_sha256(path))
    found = verify_copy(str(path), index)
    assert found.problems == ()
    assert found.measured.decode_errors > 0


def test_a_real_webm_behind_the_wrong_name_is_called_webm() -> None:
    path = shared_dir() / "media" / "bad" / "really_webm.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    assert copy_extension(str(path), index_of(str(path))) == "webm"
