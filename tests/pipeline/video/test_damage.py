"""Random damage: whatever happens, it is a typed refusal or a checked index."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.settings import Limits
from pipeline.video.decode import decode_frames
from pipeline.video.index import build_index
from tests.pipeline.video.media import Clip, index_of, make_clip


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


TS_PACKET, VIDEO_PID = 188, 256


def without_frames(stream: bytes, first: int, last: int) -> bytes:
    """A transport stream that lost all packets of the coded frames ``first`` to ``last``, exclusive."""
    packets = [stream[at : at + TS_PACKET] for at in range(0, len(stream), TS_PACKET)]
    frame, kept = -1, []
    for packet in packets:
        is_video = (packet[1] & 31) << 8 | packet[2] == VIDEO_PID
        frame += is_video and bool(packet[1] & 64)
        if not (is_video and first <= frame < last):
            kept.append(packet)
    return b"".join(kept)


@pytest.mark.parametrize(("first", "last"), [(20, 23), (17, 18)])
@pytest.mark.parametrize("steady", [True, False], ids=["steady", "vfr"])
def test_frames_that_a_transport_stream_lost_are_told_of(tmp_path, first, last, steady):
    pts = range(0, 48 * 512, 512) if steady else [512 * i + 128 * (i % 3) for i in range(48)]
    whole = make_clip(tmp_path / "whole.ts", Clip(pts=pts, options={"bf": "0"}))
    assert index_of(whole).warnings == ()
    short = tmp_path / "short.ts"
    short.write_bytes(without_frames(Path(whole).read_bytes(), first, last))
    index = index_of(str(short))
    assert index.frames == 48 - (last - first)
    told = f"frames_missing={last - first}: none at the usual time before frame {first}; times kept"
    assert [w for w in index.warnings if w.startswith("frames_missing")] == ([told] if steady else [])
    assert [w for w in index.warnings if w.startswith("torn_packets=")]
