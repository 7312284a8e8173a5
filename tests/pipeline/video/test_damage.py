"""Random damage: whatever happens, it is a typed refusal or a checked index."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.settings import Limits
from pipeline.video.decode import decode_frames
from pipeline.video.index import build_index
from tests.pipeline.video.media import Clip, make_clip


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_damaged_bytes_never_raise_anything_but_a_source_error(tmp_path, name):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    whole = Path(make_clip(tmp_path / name, Clip(codec=codec))).read_bytes()
    dice = random.Random(name)
    refusals: list[SourceError] = []
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 5, 40])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.3:
            data = data[: dice.randrange(1, len(data))]
        (tmp_path / "x").write_bytes(data)
        try:
            index = build_index(str(tmp_path / "x"), "s3://in/x", Limits(), "digest")
            frames = list(decode_frames(str(tmp_path / "x"), index, index.frames // 2, index.frames))
        except SourceError as error:
            refusals.append(error)
        else:
            assert len(frames) == index.frames - index.frames // 2
    assert all(e.code == "decode_mismatch" or e.message.startswith("s3://in/x") for e in refusals)
