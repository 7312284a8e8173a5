"""Text2Video-Zero (Khachatryan et al. 2023, arXiv 2303.13439): keys and values of the first frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

from operators.attention.harvest import WHAT_READING_NEEDS, Keep
from operators.attention.policies.base import ONCE, Copies, References, Unit
from operators.attention.reading import Reading


@dataclass(frozen=True)
class FirstFrame:
    """``first_frame``: the first frame of the scene, which is its only anchor, takes the place of a frame's
    own keys. What a frame shows for the first time finds nothing of its own to read."""

    keep: Keep = WHAT_READING_NEEDS
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        """The first frame and the style."""
        return replace(references.scene_reading(), own=False)
