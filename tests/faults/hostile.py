"""Hostile sources made on the spot, and the answer each must get."""

from __future__ import annotations

import gzip
import io
import os
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.pipeline.video.media import Clip, make_clip

FRAMES = 12


@dataclass(frozen=True)
class Hostile:
    """``write`` makes the file; ``code`` is the reason for which it is refused, "" if it is published."""

    code: str
    write: Callable[[Path, bytes], object]


def _bytes(data: bytes) -> Callable[[Path, bytes], object]:
    return lambda path, clip: path.write_bytes(data)


def _picture(path: Path, clip: bytes) -> None:
    done, data = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))
    assert done
    path.write_bytes(data.tobytes())


def _sound(path: Path, clip: bytes) -> None:
    data = io.BytesIO()
    with wave.open(data, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    path.write_bytes(data.getvalue())


def _without_pictures(path: Path, clip: bytes) -> None:
    """A valid header whose samples are all zero."""
    start = clip.index(b"mdat") + 4
    size = int.from_bytes(clip[start - 8 : start - 4], "big") - 8
    path.write_bytes(clip[:start] + bytes(size) + clip[start + size :])


def _boxes_that_lie(path: Path, clip: bytes) -> None:
    """Sample tables that speak of four thousand million samples."""
    at = clip.index(b"stsz") + 12
    path.write_bytes(clip[:at] + b"\xff\xff\xff\xff" + clip[at + 4 :])


SOURCES: dict[str, Hostile] = {
    "zeros.mp4": Hostile("not_a_video", _bytes(bytes(1 << 16))),
    "page.mp4": Hostile("not_a_video", _bytes(b"<!doctype html><title>404</title>" * 40)),
    "zipped.mp4": Hostile("not_a_video", lambda path, clip: path.write_bytes(gzip.compress(clip))),
    "script.mp4": Hostile("not_a_video", _bytes(b"ffconcat version 1.0\nfile /etc/hostname\n")),
    "session.mp4": Hostile(
        "not_a_video", _bytes(b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 9 RTP/AVP 96\r\n")
    ),
    "network.mp4": Hostile(
        "not_a_video", _bytes(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    ),
    "titles.mp4": Hostile("not_a_video", _bytes(b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n" * 20)),
    "picture.mp4": Hostile("still_image", _picture),
    "sound.mp4": Hostile("no_video_stream", _sound),
    "half header.mp4": Hostile("no_moov", lambda path, clip: path.write_bytes(clip[:40])),
    "no pictures.mp4": Hostile("no_frames", _without_pictures),
    "lying boxes.mp4": Hostile("not_a_video", _boxes_that_lie),
    "twice.mp4": Hostile("", lambda path, clip: path.write_bytes(clip + clip)),
    "trailing.mp4": Hostile("", lambda path, clip: path.write_bytes(clip + b"\0garbage" * 100)),
    "pipe.mp4": Hostile("unreadable", lambda path, clip: os.mkfifo(path)),
    "endless.mp4": Hostile("unreadable", lambda path, clip: path.symlink_to("/dev/zero")),
    "dangling.mp4": Hostile("missing", lambda path, clip: path.symlink_to("nowhere")),
    "new\nline \\ and \x07.mp4": Hostile("", lambda path, clip: path.write_bytes(clip)),
    "l" * 251 + ".mp4": Hostile("", lambda path, clip: path.write_bytes(clip)),
}


def write_sources(folder: Path) -> list[str]:
    """Writes them all; their URIs."""
    folder.mkdir()
    whole = folder.parent / "whole.mp4"
    make_clip(whole, Clip(pts=range(0, FRAMES * 512, 512), width=32, height=24, audio="aac"))
    clip = whole.read_bytes()
    for name, hostile in SOURCES.items():
        hostile.write(folder / name, clip)
    return [str(folder / name) for name in SOURCES]


def damaged(clip: bytes, seed: int) -> bytes:
    """A clip of which a few pieces changed, were lost or doubled, as disks and transfers do it."""
    draws = np.random.default_rng(seed)
    data = bytearray(clip)
    for _ in range(int(draws.integers(1, 6))):
        at, length = int(draws.integers(0, len(data))), int(draws.integers(1, 32))
        piece = data[at : at + length]
        how = draws.integers(0, 3)
        if how == 0:
            data[at : at + length] = draws.bytes(len(piece))
        elif how == 1:
            del data[at : at + length]
        else:
            data[at:at] = piece
    return bytes(data)
