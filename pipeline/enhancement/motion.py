"""Motion of the frames of a chunk, to the knots around them and to their neighbours, measured on small
pictures of the source."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from operators.flow.cells import at_cells
from operators.flow.interval import motions_to_ends, small_grey
from operators.flow.motion import motion_both_ways
from operators.solvers.flow_loss import ClipFlows
from operators.warped_noise import FLOW_PIXELS_PER_CELL, Moved
from pipeline.enhancement.references import Arrays
from pipeline.enhancement.sizes import StageSizes

Frames = np.ndarray[Any, Any]


def flow_pictures(frames: Frames, sizes: StageSizes) -> Frames:
    """What motion is measured on: uint8 [B, h, w], a few pixels per latent cell of the first stage."""
    shrink = min(1.0, FLOW_PIXELS_PER_CELL * sizes.scale(0) / sizes.factor)
    return np.stack([small_grey(frame, shrink) for frame in frames])


def moved_cells(
    number: int,
    frames: Frames,
    ordinals: Sequence[int],
    grid: Sequence[int],
    known: Mapping[int, Arrays],
    sizes: StageSizes,
) -> dict[int, Moved]:
    """Where the cells of stage ``number`` come from, for the frames between knots.

    The pictures of both knots come with their references: the right one may lie in the next chunk."""
    sides = sizes.grown(number, frames.shape[1:3])
    padded, cells = sizes.padded_sides(number, sides), sizes.cells(number, sides)
    found: dict[int, Moved] = {}
    for knots in itertools.pairwise(grid):
        at = [i for i, ordinal in enumerate(ordinals) if knots[0] < ordinal < knots[1]]
        if not at:
            continue
        first, last = (known[knot]["source"][0] for knot in knots)
        pictures = [first, *flow_pictures(frames[at], sizes), last]
        for i, ends_of in zip(at, motions_to_ends(pictures), strict=True):
            covered = [
                round(pixels * whole / own)
                for pixels, whole, own in zip(pictures[0].shape, padded, sides, strict=True)
            ]
            height, width = cells
            found[ordinals[i]] = Moved(knots, ends_of.at_cells(height, width, (covered[0], covered[1])))
    return found


def clip_flows(
    number: int, frames: Frames, sides: Sequence[int], sizes: StageSizes, device: str
) -> ClipFlows | None:
    """Motion between neighbours of a clip [T, h, w, 3], on the latent grid of stage ``number``, whose input
    has ``sides`` pixels; None for a single frame."""
    if len(frames) < 2:
        return None
    pictures = flow_pictures(frames, sizes)
    padded, (height, width) = sizes.padded_sides(number, sides), sizes.cells(number, sides)
    rows, columns = (
        round(pixels * whole / own)
        for pixels, whole, own in zip(pictures[0].shape, padded, sides, strict=True)
    )
    ways = [motion_both_ways(here, there) for here, there in itertools.pairwise(pictures)]
    forward, backward = (
        torch.stack(
            [
                torch.from_numpy(at_cells(motion, height, width, covered=(rows, columns)).flow)
                for motion in motions
            ]
        ).permute(0, 3, 1, 2)
        for motions in zip(*ways, strict=True)
    )
    return ClipFlows(forward.to(device), backward.to(device))
