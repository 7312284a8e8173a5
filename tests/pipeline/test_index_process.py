"""Indexing beside Ray: what comes back is what indexing here gives, and a dead decoder is a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import index_process
from pipeline.errors import SourceError
from pipeline.index_process import index_in_process
from pipeline.settings import Limits, VideoPolicy
from pipeline.video.index import build_index
from tests.pipeline.video.media import Clip, make_clip


def test_an_index_from_another_process_is_the_same_index(tmp_path: Path) -> None:
    name = b"\xff odd '.mp4".decode("utf-8", "surrogateescape")
    path = make_clip(tmp_path / name, Clip(pts=range(0, 14 * 512, 512)))
    found = index_in_process(path, path, Limits(), "digest", VideoPolicy(timestamps="rebuild"))
    assert found == build_index(path, path, Limits(), "digest", VideoPolicy(timestamps="rebuild"))


def test_a_refusal_comes_back_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"s3://in/a\.mp4") as caught:
        index_in_process(str(tmp_path / "a.mp4"), "s3://in/a.mp4", Limits(), "digest", VideoPolicy())
    assert caught.value.code == "not_a_video"


def test_a_decoder_that_dies_refuses_its_video_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "dying"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o700)
    monkeypatch.setattr(index_process.sys, "executable", str(dying))
    with pytest.raises(SourceError, match="ended with -11") as caught:
        index_in_process("a.mp4", "a.mp4", Limits(), "digest", VideoPolicy())
    assert caught.value.code == "crashed"
