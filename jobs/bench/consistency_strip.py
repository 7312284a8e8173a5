"""A film strip around a border: with per-chunk sharing and with knots, and what changes along the motion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jobs.render import Frames

STRIPPED = ("chunk_first", "chunk_joint", "knots")
#: Frames on either side of the border; how much changes are blurred (sigma in pixels) and then brightened.
AROUND, BLURRED, AMPLIFIED = 3, 1.5, 16.0
_GAP, _TITLE, _MARK = 4, 16, (220, 40, 40)
_MIDDLE = 128.0


def write_strip(path: Path, source: Frames, videos: Mapping[str, Frames], border: int) -> None:
    """A PNG with two lines per video: the frames around ``border`` (the first frame of a unit), and below
    and between them their change from frame to frame, brightened; the pair across is marked.

    Change means the difference of a frame and its successor warped back along the source's motion, where
    that is visible; mid grey is none. It is blurred first: a seam is a shift of whole areas, while the fine
    residue of imperfect motion is in every pair.
    """
    import cv2

    ordinals = range(max(0, border - AROUND), min(len(source), border + AROUND))
    shown = {"source": source, **videos}
    lines = [_line(name, video, source, ordinals, border) for name, video in shown.items()]
    sheet = np.concatenate(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    written, png = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not written:
        raise OSError(f"{path}: the film strip cannot be encoded")
    path.write_bytes(png.tobytes())


def _line(name: str, video: Frames, source: Frames, ordinals: range, border: int) -> Frames:
    frames = _titled(video[list(ordinals)], name)
    changes = _changes(video, source, ordinals)
    height, side = changes[0].shape[:2]
    below = np.full((height + _GAP, frames.shape[1], 3), 255, np.uint8)
    for i, change in enumerate(changes):
        left = _GAP + i * (side + _GAP) + (side + _GAP) // 2
        if ordinals[i] + 1 == border:
            below[:, left - _GAP : left + side + _GAP] = _MARK
        below[_GAP // 2 : _GAP // 2 + height, left : left + side] = change
    return np.concatenate([frames, below])


def _changes(video: Frames, source: Frames, ordinals: range) -> list[Frames]:
    import cv2

    from operators.flow.motion import motion_between
    from operators.flow.warp import warp

    found = []
    for at in ordinals[:-1]:
        motion = motion_between(source[at], source[at + 1])
        change = warp(video[at + 1], motion.flow) - video[at].astype(np.float32)
        change[~motion.visible] = 0.0
        shown = _MIDDLE + AMPLIFIED * cv2.GaussianBlur(change, (0, 0), BLURRED)
        found.append(np.rint(shown.clip(0, 255)).astype(np.uint8))
    return found


def _titled(frames: Frames, title: str) -> Frames:
    import cv2

    side = frames.shape[2] + _GAP
    row = np.full((_TITLE + frames.shape[1] + _GAP, _GAP + side * len(frames), 3), 255, np.uint8)
    cv2.putText(row, title, (_GAP, _TITLE - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    for i, frame in enumerate(frames):
        row[_TITLE : _TITLE + frame.shape[0], _GAP + i * side : (i + 1) * side] = frame
    return row
