"""Pairs of crops to train on: a frame, and a view of the same picture to serve as its reference.

Everything is drawn from a keyed generator, so iteration i sees the same pictures whatever ran before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.training.pictures import Picture, as_signed

#: A view is displaced by up to this many pixels (uniform in each direction) ...
NEAR = 16
#: ... or, in one pair of this many, by up to FAR: style of the same picture rather than the same content.
FAR = 64
FAR_ONE_IN = 5
#: One pair in this many is not displaced at all: what a still camera sees.
STILL_ONE_IN = 5


@dataclass(frozen=True)
class Views:
    """``frames`` and ``references`` float32 [B, 3, s, s] in [-1, 1]; ``displacement`` int64 [B, 2], rows and
    columns by which a point of the frame lies further down and right in the reference."""

    frames: Tensor
    references: Tensor
    displacement: Tensor


def draw_views(
    pictures: Sequence[Picture], generator: torch.Generator, *, count: int, side: int, mixed: bool = True
) -> Views:
    """``count`` pairs of square crops of ``side`` pixels, half of them mirrored; all within NEAR unless
    ``mixed``."""
    frames, references, displacements = [], [], []
    for _ in range(count):
        level = _draw_level(pictures, generator, side)
        reach = _draw_reach(generator) if mixed else NEAR
        first = [_integer(generator, extent - side + 1) for extent in level.shape[1:]]
        second = [
            min(max(at + _integer(generator, 2 * reach + 1) - reach, 0), extent - side)
            for at, extent in zip(first, level.shape[1:], strict=True)
        ]
        a, b = (level[:, y : y + side, x : x + side] for y, x in (first, second))
        down, right = first[0] - second[0], first[1] - second[1]
        if _integer(generator, 2):
            a, b, right = a.flip(2), b.flip(2), -right
        frames.append(a)
        references.append(b)
        displacements.append((down, right))
    return Views(as_signed(frames), as_signed(references), torch.tensor(displacements))


def draw_pictures(
    pictures: Sequence[Picture], generator: torch.Generator, *, count: int, side: int
) -> Tensor:
    """``count`` square crops, float32 [B, 3, side, side] in [-1, 1]; half of them mirrored."""
    crops = []
    for _ in range(count):
        level = _draw_level(pictures, generator, side)
        y, x = (_integer(generator, extent - side + 1) for extent in level.shape[1:])
        crop = level[:, y : y + side, x : x + side]
        crops.append(crop.flip(2) if _integer(generator, 2) else crop)
    return as_signed(crops)


def _draw_level(pictures: Sequence[Picture], generator: torch.Generator, side: int) -> Tensor:
    """A picture at one of its scales, the finer ones preferred; only scales that hold a crop count."""
    fitting: list[Tensor] = []
    while not fitting:
        picture = pictures[_integer(generator, len(pictures))]
        fitting = [level for level in picture.levels if min(level.shape[1:]) >= side]
    # 2 : 2 : 1 over full, half and third size.
    weighted = [level for rank, level in enumerate(fitting) for _ in range(1 if rank == 2 else 2)]
    return weighted[_integer(generator, len(weighted))]


def _draw_reach(generator: torch.Generator) -> int:
    if _integer(generator, FAR_ONE_IN) == 0:
        return FAR
    return 0 if _integer(generator, STILL_ONE_IN) == 0 else NEAR


def _integer(generator: torch.Generator, below: int) -> int:
    return int(torch.randint(below, (), generator=generator))
