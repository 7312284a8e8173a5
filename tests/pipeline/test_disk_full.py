"""Encoders and muxers that cannot write say so in their own words; a full disk is recognised behind them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.disk_full import disk_is_full
from pipeline.errors import ChunkError, SourceError, StoreError
from pipeline.filesystem import typed_errors
from pipeline.settings import EncodeSettings
from pipeline.video.assemble import assemble
from pipeline.video.decode import decode_frames
from pipeline.video.encode import encode_source_segment
from tests.pipeline.video.media import Clip, index_of, make_clip

FULL = "/dev/full"
"""A device that takes no byte: every write ends with ENOSPC."""


def test_an_encoder_on_a_full_disk(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 8 * 512, 512)))
    index = index_of(source)
    with pytest.raises(ChunkError) as caught:
        encode_source_segment(FULL, decode_frames(source, index, 0, 8), (8,), index, EncodeSettings())
    assert caught.value.code == "encode_failed"
    assert disk_is_full(caught.value)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_muxer_on_a_full_disk(tmp_path: Path, container: str) -> None:
    source = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 8 * 512, 512)))
    index, settings = index_of(source), EncodeSettings()
    path = str(tmp_path / "segment.mkv")
    segment = encode_source_segment(path, decode_frames(source, index, 0, 8), (8,), index, settings)
    with pytest.raises(SourceError) as caught:
        assemble(source, index, [path], [segment], FULL, container, settings)  # type: ignore[arg-type]
    assert disk_is_full(caught.value)


def test_storage_on_a_full_disk_or_quota_and_other_failures() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with (
            pytest.raises(StoreError, match="free space there") as caught,
            typed_errors("/out/a", "write it"),
        ):
            raise OSError(number, "no room")
        assert disk_is_full(caught.value)
    with pytest.raises(StoreError) as caught, typed_errors("/out/a", "write it"):
        raise OSError(errno.EIO, "input/output error")
    assert not disk_is_full(caught.value)
