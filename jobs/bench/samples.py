"""Evaluation pictures and clips of a folder, and the centre squares that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SpecError

Pictures = NDArray[np.uint8]
_T = TypeVar("_T")

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
CLIP_SUFFIXES = (".mp4", ".mkv")
#: A clip counts as one sample, the mean of this many evenly spaced frames.
CLIP_FRAMES = 4
#: Sides of all measured pictures are multiples of this, as the embedded model asks.
MULTIPLE = 16


@dataclass(frozen=True)
class Sample:
    """One picture or some frames of one clip: ``frames`` RGB uint8 [n, h, w, 3], counted once."""

    name: str
    frames: Pictures
    is_clip: bool = False

    def square(self, side: int) -> Sample | None:
        """The centre square of ``side`` pixels; None where it does not fit."""
        height, width = self.frames.shape[1:3]
        if min(height, width) < side:
            return None
        top, left = (height - side) // 2, (width - side) // 2
        return Sample(self.name, self.frames[:, top : top + side, left : left + side], self.is_clip)

    def square_up_to(self, side: int) -> Sample | None:
        """As `square`; small clips give their largest square of a multiple of `MULTIPLE` pixels instead."""
        shorter = min(self.frames.shape[1:3])
        if self.is_clip and 0 < shorter // MULTIPLE * MULTIPLE < side:
            side = shorter // MULTIPLE * MULTIPLE
        return self.square(side)


def read_samples(folder: Path, limit: int | None = None) -> list[Sample]:
    """All pictures and clips below ``folder`` by name, or ``limit`` of them, evenly spaced.

    Raises SpecError naming --pictures: missing, without a picture or clip, or with one that cannot be read.
    """
    if not folder.is_dir():
        raise SpecError(f"--pictures: {folder} is no folder; name one with pictures", field="--pictures")
    known = PICTURE_SUFFIXES + CLIP_SUFFIXES
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in known and p.is_file())
    if not any(path.suffix.lower() in PICTURE_SUFFIXES for path in paths):
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise SpecError(f"--pictures: no picture ({kinds}) below {folder}", field="--pictures")
    if limit is not None:
        paths = evenly(paths, limit)
    return [_read(path, path.relative_to(folder).as_posix()) for path in paths]


def evenly(values: Sequence[_T], count: int) -> list[_T]:
    """``count`` of ``values`` at equal distances, from the middle of each stretch."""
    if len(values) <= count:
        return list(values)
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]


def _read(path: Path, name: str) -> Sample:
    if path.suffix.lower() in CLIP_SUFFIXES:
        return Sample(name, _clip_frames(path), is_clip=True)
    import cv2

    # From bytes: OpenCV opens no path that is not text in the locale's encoding.
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if picture is None:
        raise SpecError(f"--pictures: {path} cannot be read as a picture", field="--pictures")
    return Sample(name, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)[None])


def _clip_frames(path: Path) -> Pictures:
    """Evenly spaced frames. Two passes, so that a long clip is not held in memory."""
    import av

    try:
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        picks = set(evenly(range(count), CLIP_FRAMES))
        with av.open(str(path)) as container:
            numbered = enumerate(container.decode(video=0))
            frames = [frame.to_ndarray(format="rgb24") for i, frame in numbered if i in picks]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise SpecError(f"--pictures: {path} cannot be read as a video", field="--pictures") from error
    if not frames:
        raise SpecError(f"--pictures: {path} holds no frames", field="--pictures")
    return np.stack(frames)
