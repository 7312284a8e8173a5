"""The policies without neighbours in time: style alone, the anchors among themselves, style and anchors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from operators.attention.harvest import WHAT_READING_NEEDS, Keep
from operators.attention.policies.base import AMONG_KNOTS, ONCE, Copies, References, Unit
from operators.attention.reading import Reading


@dataclass(frozen=True)
class Independent:
    """``none``: a frame reads itself and the style."""

    keep: Keep = WHAT_READING_NEEDS
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        """Itself and the style."""
        return references.style_reading()


@dataclass(frozen=True)
class JointAnchors:
    """How anchors come to be: the rows of the unit read each other and the style."""

    copies: Copies = AMONG_KNOTS
    keep: Keep = WHAT_READING_NEEDS

    def reading(self, unit: Unit, references: References) -> Reading:
        """All rows and the style."""
        return references.joint_reading()


@dataclass(frozen=True)
class Anchors:
    """``anchors``, and how knots come to be: a frame reads itself, the style and the scene's anchors."""

    copies: Copies = AMONG_KNOTS
    keep: Keep = WHAT_READING_NEEDS

    def reading(self, unit: Unit, references: References) -> Reading:
        """Itself, style and anchors."""
        return replace(references.scene_reading(), own_weight=self.copies.knot)
