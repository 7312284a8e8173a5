"""The usual ways of sharing inside a chunk. They need no plan, and their results depend on the chunk: for
comparison, and for short clips that fit into one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from operators.attention.harvest import WHAT_READING_NEEDS, Keep
from operators.attention.policies.base import ONCE, Copies, References, Unit
from operators.attention.reading import Reader, Reading


@dataclass(frozen=True)
class ChunkFirst:
    """``chunk_first``: a frame reads itself and the ``first`` frame of its chunk, which is a unit of its own
    and comes first."""

    first: int
    keep: Keep = WHAT_READING_NEEDS
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        """Itself, the style and the first frame of the chunk."""
        reading = references.style_reading()
        if unit.ordinals == (self.first,):
            return replace(reading, record=True)
        return replace(reading, readers=(*reading.readers, Reader(references.left[self.first])))


@dataclass(frozen=True)
class ChunkJoint:
    """``chunk_joint``: all frames of a chunk, which are one unit, read each other. Memory grows with the
    square of the chunk."""

    keep: Keep = WHAT_READING_NEEDS
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        """All rows and the style."""
        return references.joint_reading()


@dataclass(frozen=True)
class SparseCausal:
    """``sparse_causal`` (Tune-A-Video, Wu et al. 2023, arXiv 2212.11565): the first frame of the scene, its
    only anchor, and the previous frame take the place of a frame's own keys.

    Units of one frame, in order. Where a chunk begins the previous frame is not at hand (our reading: the
    frame reads itself instead); where a scene begins it is the first one.
    """

    first: int
    keep: Keep = WHAT_READING_NEEDS
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        """The style, the first frame and the previous one."""
        scene = replace(references.scene_reading(), record=True)
        (ordinal,) = unit.ordinals
        if ordinal - 1 in references.left:
            previous = Reader(references.left[ordinal - 1])
            return replace(scene, readers=(*scene.readers, previous), own=False)
        return replace(scene, own=ordinal - 1 != self.first)
