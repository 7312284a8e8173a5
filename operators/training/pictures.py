"""The training set: a folder of pictures, read once, checked, split and kept as bytes in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from operators.errors import TrainingError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
#: Integer reductions each picture is also seen at: coarser scales have sharper pixels.
REDUCTIONS = (1, 2, 3)
#: Below this side a picture holds no crop of the smallest size with room to shift.
SMALLEST_SIDE = 128
#: Fewer pictures than this cannot be split into a training and a held-out part.
FEWEST = 8
#: Share of the pictures that is held out. With the set of the shipped weights it gives 24 of 596.
HELD_OUT_SHARE = 0.0378
#: A set with fewer pictures in that share holds out this many.
FEWEST_HELD_OUT = 2


@dataclass(frozen=True)
class Picture:
    """One picture at the scales of `REDUCTIONS`: ``levels`` uint8 [3, H, W] each, finest first."""

    name: str
    levels: tuple[Tensor, ...]

    @property
    def side(self) -> int:
        """The shorter side at full size, in pixels."""
        return min(self.levels[0].shape[1:])

    def centre(self, side: int) -> Tensor | None:
        """The centre square of ``side`` pixels as float32 [1, 3, side, side] in [-1, 1]; None where the
        picture is smaller."""
        _, height, width = self.levels[0].shape
        if self.side < side:
            return None
        y, x = (height - side) // 2, (width - side) // 2
        return as_signed([self.levels[0][:, y : y + side, x : x + side]])


@dataclass(frozen=True)
class TrainingSet:
    """Pictures to train on and pictures never trained on; ``digest`` identifies the files' contents."""

    training: tuple[Picture, ...]
    held_out: tuple[Picture, ...]
    digest: str


def read_training_set(folder: Path) -> TrainingSet:
    """All pictures below ``folder``, grey ones as grey RGB, transparency refused.

    A picture is held out when the digest of its file falls into the lowest `HELD_OUT_SHARE` of all digests,
    whatever else is in the folder: adding pictures moves none between the parts. Only where fewer than
    `FEWEST_HELD_OUT` do, those of the lowest digests are taken instead. Raises TrainingError naming the
    folder or the file: missing, empty, unreadable, too small or not RGB.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder; give a folder of pictures")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    contents = {path: _digest(path) for path in paths}
    # Equal files count once: a copy must not be both trained on and held out.
    unique = {digest: path for path, digest in reversed(contents.items())}
    if len(unique) < FEWEST:
        kinds = ", ".join(sorted(SUFFIXES))
        raise TrainingError(
            f"{folder} holds {len(unique)} different pictures ({kinds}); at least {FEWEST} are needed"
        )
    pictures = {digest: _read(path, folder) for digest, path in sorted(unique.items())}
    ranked = list(pictures)
    held = set(ranked[: max(FEWEST_HELD_OUT, sum(map(_in_held_out_share, ranked)))])
    return TrainingSet(
        training=tuple(picture for digest, picture in pictures.items() if digest not in held),
        held_out=tuple(picture for digest, picture in pictures.items() if digest in held),
        digest=hashlib.sha256("".join(ranked).encode()).hexdigest(),
    )


def largest_side(pictures: Sequence[Picture]) -> int:
    """The largest square, in pixels, that at least half of ``pictures`` hold."""
    return sorted(picture.side for picture in pictures)[len(pictures) // 2]


def as_signed(pictures: Sequence[Tensor]) -> Tensor:
    """uint8 [3, H, W] of equal size to float32 [B, 3, H, W] in [-1, 1]."""
    return torch.stack(list(pictures)).float() * (2.0 / 255.0) - 1.0


def _in_held_out_share(digest: str) -> bool:
    return int(digest[:8], 16) < HELD_OUT_SHARE * 16**8


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error


def _read(path: Path, folder: Path) -> Picture:
    # cv2.imread reports a damaged file on the process's stderr only and returns None.
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        # An empty file, or more pixels than OpenCV agrees to decode.
        pixels = None
    if pixels is None:
        raise TrainingError(f"{path} is damaged or no picture; remove it from the folder")
    if pixels.dtype != np.uint8:
        raise TrainingError(f"{path} has {pixels.dtype} samples; convert it to 8 bits per channel")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, 2)
    if pixels.shape[2] != 3:
        raise TrainingError(f"{path} has {pixels.shape[2]} channels; convert it to RGB without transparency")
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise TrainingError(f"{path} is {width}x{height}; both sides must be at least {SMALLEST_SIDE} pixels")
    full = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)))
    levels = tuple(_reduce(full, r) for r in REDUCTIONS if min(height, width) // r >= SMALLEST_SIDE)
    return Picture(path.relative_to(folder).as_posix(), levels)


def _reduce(full: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return full
    return F.avg_pool2d(full[None].float(), factor)[0].round().to(torch.uint8)
