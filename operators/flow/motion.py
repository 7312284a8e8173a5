"""A flow and where it can be trusted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.flow.dis import Flow, Picture, dis_flow
from operators.flow.warp import inside, warp

# Ruder et al. 2016, "Artistic Style Transfer for Videos", eqs. 5 and 6 (after Sundaram et al. 2010), as used
# by Lai et al. 2018. The constants of motion boundaries are our reading: not seen in running code.
OCCLUSION_SLOPE, OCCLUSION_FLOOR = 0.01, 0.5
BOUNDARY_SLOPE, BOUNDARY_FLOOR = 0.01, 0.002

_ALL_OF_IT = 0.999


@dataclass(frozen=True)
class Motion:
    """From one picture to another: ``flow`` float32 [H, W, 2] (x, y in pixels) and where it can be trusted,
    ``visible`` bool [H, W]."""

    flow: Flow
    visible: NDArray[np.bool_]


def motion_between(here: Picture, there: Picture) -> Motion:
    """DIS motion from ``here`` to ``there`` (RGB or grey, uint8 or uint16), visible where it stays in the
    picture, comes back, and is no motion boundary."""
    forward = dis_flow(here, there)
    visible = comes_back(forward, dis_flow(there, here)) & ~motion_boundary(forward)
    return Motion(forward, visible)


def motion_both_ways(here: Picture, there: Picture) -> tuple[Motion, Motion]:
    """Motion from ``here`` to ``there`` and back, visible where it stays in the picture and comes back;
    motion boundaries count as visible."""
    forward, backward = dis_flow(here, there), dis_flow(there, here)
    return (
        Motion(forward, comes_back(forward, backward)),
        Motion(backward, comes_back(backward, forward)),
    )


def motions(frames: Iterable[Picture]) -> Iterator[Motion]:
    """`motion_between` consecutive frames, one fewer than frames; holds two frames at a time."""
    return (motion_between(here, there) for here, there in itertools.pairwise(frames))


def comes_back(forward: Flow, backward: Flow) -> NDArray[np.bool_]:
    """Whether the way there and back ends near its beginning, bool [H, W]; false outside the picture.

    Ruder et al. 2016, eq. 5: occluded where |w + wb|^2 > 0.01 (|w|^2 + |wb|^2) + 0.5, ``wb`` the backward
    flow at the target of ``w``.
    """
    back = warp(backward, forward)
    gap = ((forward + back) ** 2).sum(2)
    length = (forward**2).sum(2) + (back**2).sum(2)
    return inside(forward) & (gap <= OCCLUSION_SLOPE * length + OCCLUSION_FLOOR)


def motion_boundary(flow: Flow) -> NDArray[np.bool_]:
    """Ruder et al. 2016, eq. 6: |grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002, central differences (our
    reading), bool [H, W]."""
    gradient = sum(np.gradient(flow[..., c], axis=axis) ** 2 for c in (0, 1) for axis in (0, 1))
    return gradient > BOUNDARY_SLOPE * (flow**2).sum(2) + BOUNDARY_FLOOR


def chain(first: Motion, rest: Motion) -> Motion:
    """The motion A -> C of A -> B and B -> C: w(x) = w_AB(x) + w_BC(x + w_AB(x)).

    Visible where both parts are (all four pixels around the middle point) and the end lies in the picture.
    """
    flow = first.flow + warp(rest.flow, first.flow)
    through = warp(rest.visible, first.flow) > _ALL_OF_IT
    return Motion(flow, first.visible & through & inside(flow))
