"""How frames read the style: published methods as readings of one bank.

All act on self-attention, whose keys and values of the replayed reference are the bank. Each method says what
happens to the frame's own queries and keys, in which layers, and at which timesteps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from operators.attention.harvest import Harvest
from operators.attention.reading import Alignment, Reader, Reading

#: RIVAL's t_align and t_early, StyleID's sharpness, StyleAligned's shift for real pictures.
RIVAL_ALIGN, STYLEID_SHARPNESS, REAL_REFERENCE = 600, 1.5, math.log(2)


class StyleMethod(Protocol):
    """What the rows of a network call read of a replayed style. ``align`` and ``norms`` say whether the
    harvest must keep statistics."""

    align: bool
    norms: bool

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """The rows themselves, or not, and ``style``, at the network's ``timestep``."""


@dataclass(frozen=True)
class SharedWithStyle:
    """StyleAligned (Hertz et al. 2024, arXiv 2312.02133, section 3.2): own keys and the style's, whose logits
    gain ``bias`` (log 2 for real pictures); ``align`` gives queries and keys the style's statistics,
    ``norms`` shares those of GroupNorm. With ``bias`` 0 and both this is the paper's setting for pictures
    the model has made itself."""

    bias: float = REAL_REFERENCE
    align: bool = True
    norms: bool = False

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """The same at every timestep."""
        alignment = Alignment(style, None, norms=self.norms) if self.align else None
        return Reading((Reader(style, bias=self.bias),), alignment)


@dataclass(frozen=True)
class StatisticsOnly:
    """AdaIN of queries and keys towards the style (and of GroupNorm with ``norms``) without reading it: no
    attention is added, and nothing of its layout can leak."""

    align: bool = True
    norms: bool = True

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """The rows themselves, aligned."""
        return Reading((), Alignment(style, None, norms=self.norms))


@dataclass(frozen=True)
class StyleInPlace:
    """StyleID (Chung et al. 2024, arXiv 2312.09008): in ``layers`` the style's keys and values take the place
    of the frame's own, and logits are multiplied by ``sharpness`` (its tau). The queries of the
    content are injected by the solver (`operators.style.styleid`). Anchors and knots are read beside the
    style in these layers, so frames agree in time (ours; the paper treats single pictures)."""

    layers: frozenset[str]
    sharpness: float = STYLEID_SHARPNESS
    align: bool = False
    norms: bool = False

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """The same at every timestep."""
        return Reading((Reader(style, local=True),), own=False, sharpness=self.sharpness, only=self.layers)


@dataclass(frozen=True)
class ReplaceThenConcat:
    """RIVAL (Zhang et al. 2023, arXiv 2305.18729): above ``until`` the reference's keys and values take the
    place of the frame's own, from there on both are read. Its normalisation of the noise belongs to the
    solver (`operators.style.rival`)."""

    until: int = RIVAL_ALIGN
    align: bool = False
    norms: bool = False

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """By the network's own timestep; the published code counts calls, and any extra one shifts it."""
        return Reading((Reader(style),), own=timestep <= self.until)
