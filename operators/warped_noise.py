"""Noise that moves with the picture: the frames between two knots carry the knots' noise along the motion.

Chang et al. 2024 (ICLR, arXiv 2504.03072), "How I Warped Your Noise", transport noise without changing its
distribution by conditional upsampling and integration over warped cells. Ours is simpler (our reading of
their aim, not their algorithm): each cell gathers whole samples of the two knots, and none is used twice.

Exact, given the flow: the noise of every frame is white, N(0, I), whatever the motion (see
`warped_frame_noise`); at a knot it is that knot's own noise; it depends on keys and flows alone.
Not exact: motion is followed in whole cells, so below half a cell noise stays where it is and then jumps;
cells that nothing reaches (uncovered, or left over where the picture expands) are new in every frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.flow.interval import ToEnds
from operators.flow.motion import Motion
from operators.flow.warp import targets
from operators.noise import FrameDraws, Shape, mixed_noise, own_noise

#: Pixels per latent cell and side of the pictures that flows are computed on; samples move by whole cells.
FLOW_PIXELS_PER_CELL = 4
_NOWHERE = -1


@dataclass(frozen=True)
class Moved:
    """Between which knots (absolute ordinals) a frame lies, and its motion to both at latent resolution."""

    knots: tuple[int, int]
    ends: ToEnds


def warped_frame_noise(
    shape: Shape,
    *,
    seed: int,
    source_digest: str,
    scene: int,
    frame: int,
    purpose: str,
    rho: float,
    moved: Moved,
) -> Tensor:
    """Initial noise of a frame strictly between two knots: float32 CPU, ``shape`` [C, h, w].

    As `operators.noise.frame_noise`, but the frame's own part is, per cell,
    ``cos(a) e_L[i] + sin(a) e_R[j]`` with the knots' own parts e_L, e_R, ``a = u pi / 2`` and u the position
    between them: hat weights by angle, so that consecutive frames correlate equally everywhere. Where only
    one knot is found it has the whole weight, where none is, the frame's own keyed noise has it. Raises
    ValueError for a frame that is not between the knots.

    White because weights squared sum to one in every cell, no sample enters two cells (`gathered_cells`), and
    the parts are independent; so no two cells of a frame are correlated.
    """
    where = {"seed": seed, "source_digest": source_digest, "purpose": purpose}
    left, right = moved.knots
    if not left < frame < right:
        raise ValueError(f"frame {frame} does not lie between the knots {left} and {right}")
    angle = 0.5 * math.pi * (frame - left) / (right - left)
    own = own_noise(shape, frame=frame, **where)
    parts = [
        (math.cos(angle), left, gathered_cells(moved.ends.left)),
        (math.sin(angle), right, gathered_cells(moved.ends.right)),
    ]
    total, power = torch.zeros(shape), torch.zeros(shape[1:])
    for weight, knot, cells in parts:
        index = torch.from_numpy(cells)
        found = index != _NOWHERE
        samples = own_noise(shape, frame=knot, **where).flatten(1)[:, index.clamp_min(0)]
        total += weight * found * samples
        power += weight**2 * found
    gathered = torch.where(power > 0, total / power.clamp_min(1e-12).sqrt(), own)
    return mixed_noise(gathered, scene=scene, rho=rho, **where)


@dataclass(frozen=True)
class WarpedDraws(FrameDraws):
    """`FrameDraws` of which the frames in ``moved`` carry the noise of their knots, at every step; draws that
    are no latents of that grid stay as they are."""

    moved: Mapping[int, Moved] = field(default_factory=dict)

    def row(self, shape: Shape, frame: int, purpose: str) -> Tensor:
        """See `FrameDraws.row`."""
        moved = self.moved.get(frame)
        if moved is None or moved.ends.left.visible.shape != shape[1:]:
            return super().row(shape, frame, purpose)
        return warped_frame_noise(
            shape,
            seed=self.seed,
            source_digest=self.source_digest,
            scene=self.scene,
            frame=frame,
            purpose=purpose,
            rho=self.rho,
            moved=moved,
        )


def gathered_cells(motion: Motion) -> NDArray[np.int64]:
    """For each cell the flat index of the cell it gathers from, int64 [h, w], -1 for none; no index twice.

    The nearest cell to where the flow points (ties to the right and down, so that a uniform flow is a
    bijection). Of several cells that point to one, that with the smallest rounding error keeps it, then the
    first in reading order.
    """
    columns, rows = targets(motion.flow)
    height, width = columns.shape
    to_x, to_y = (np.floor(at.astype(np.float64) + 0.5) for at in (columns, rows))
    usable = motion.visible & (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    candidates = np.flatnonzero(usable)
    source = (to_y * width + to_x).ravel()[candidates].astype(np.int64)
    error = ((columns - to_x) ** 2 + (rows - to_y) ** 2).ravel()[candidates]
    order = np.lexsort((candidates, error, source))
    _, first = np.unique(source[order], return_index=True)
    winners = order[first]
    cells = np.full(height * width, _NOWHERE, dtype=np.int64)
    cells[candidates[winners]] = source[winners]
    return cells.reshape(height, width)
