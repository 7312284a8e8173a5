"""What a sharing policy is: the answer to "what does this unit read at this step?"

A policy asks `References` for what it wants to read. A reference is replayed when it is first asked for, once
per step, in a call of its own, so the answer fixes the cost too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from operators.attention.harvest import Harvest, Keep
from operators.attention.reading import Reading
from operators.solvers.base import NoiseSource

#: For policies that carry outputs over.
WITH_OUTPUTS = Keep(outputs=True)
#: For policies that read single tokens of references.
WITH_WHOLE_BANKS = Keep(whole=True)


@dataclass(frozen=True)
class Unit:
    """Frames that share one network call: ``y`` [B, 3, h, w] in [-1, 1], ``noise`` [B, C, h', w'];
    ``ordinals`` are their absolute places in the source, one per row; ``draws`` is the noise of solvers that
    draw at every step."""

    y: Tensor
    noise: Tensor
    ordinals: tuple[int, ...]
    draws: NoiseSource | None = None


@dataclass(frozen=True)
class Copies:
    """How often a frame meets a picture like its own in what it reads, where it is next to an ``anchor`` or a
    ``knot``: as itself, as that knot, as that anchor.

    References count their own keys as often when they are made and replayed. Otherwise scene and style would
    weigh more in a knot than in the frames beside it, and every knot would stand out.
    """

    anchor: int = 1
    knot: int = 1


ONCE, AMONG_ANCHORS, AMONG_KNOTS = Copies(), Copies(anchor=2), Copies(anchor=3, knot=2)


class References(Protocol):
    """What can be read at one step (``step`` counts from 0, ``timestep`` is the network's). ``mirrored``
    are the axes of [B, C, h, w] along which the solver mirrors what the network sees."""

    step: int
    timestep: int
    mirrored: tuple[int, ...]

    @property
    def style(self) -> Harvest | None:
        """The style reference; None without style."""

    @property
    def anchors(self) -> Harvest | None:
        """All anchors of the scene together; None where there are none."""

    def knot(self, ordinal: int) -> Harvest:
        """One knot. Raises OperatorError when its trajectory was not given."""

    @property
    def left(self) -> Mapping[int, Harvest]:
        """What the latest unit before at this step left whose reading asked for it, by its first ordinal."""

    def style_reading(self) -> Reading:
        """The rows themselves and the style, aligned to it."""

    def joint_reading(self) -> Reading:
        """The rows themselves, each other and the style: what anchors read."""

    def scene_reading(self) -> Reading:
        """The rows themselves, style and anchors: what knots read."""


class SharingPolicy(Protocol):
    """Decides what units read. ``keep`` is what harvests hold for it, ``copies`` how often references count
    themselves."""

    keep: Keep
    copies: Copies

    def reading(self, unit: Unit, references: References) -> Reading:
        """What the rows of ``unit`` attend to at this step."""
