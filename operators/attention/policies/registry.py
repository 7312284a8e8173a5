"""From the ``consistency`` of a job to what its frames read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from operators.attention.policies.base import AMONG_ANCHORS, Copies, SharingPolicy
from operators.attention.policies.chunk import ChunkFirst, ChunkJoint, SparseCausal
from operators.attention.policies.correspondence import Correspondence
from operators.attention.policies.first_frame import FirstFrame
from operators.attention.policies.knots import Knots
from operators.attention.policies.merged import Merged
from operators.attention.policies.propagated import Propagated
from operators.attention.policies.scene import Anchors, Independent
from operators.attention.policies.views import Fields
from operators.correspondence.fields import Matcher, everywhere, in_window
from operators.errors import OperatorError


@dataclass(frozen=True)
class Surroundings:
    """What is around the frames of a chunk: its ``first`` frame, the knots ``grid`` and the scene's
    ``anchors`` (absolute ordinals, ascending), and the ``fields`` of its frames in these."""

    first: int
    grid: tuple[int, ...] = ()
    anchors: tuple[int, ...] = ()
    fields: Fields = field(default_factory=dict)


_POLICIES: Mapping[str, Callable[[Surroundings], SharingPolicy]] = {
    "none": lambda around: Independent(),
    "first_frame": lambda around: FirstFrame(),
    "sparse_causal": lambda around: SparseCausal(around.anchors[0]),
    "chunk_first": lambda around: ChunkFirst(around.first),
    "chunk_joint": lambda around: ChunkJoint(),
    "anchors": lambda around: Anchors(AMONG_ANCHORS),
    "knots_hard": lambda around: Knots(around.grid, hard=True),
    "knots": lambda around: Knots(around.grid),
    "propagate": lambda around: Propagated(around.grid, around.fields),
    "correspondence": lambda around: Correspondence(around.grid, around.fields, around.anchors),
}


def copies_of(name: str) -> Copies:
    """How often anchors and knots count themselves under the policy ``name``. Raises OperatorError for an
    unknown name."""
    return build_policy(name, Surroundings(first=0, anchors=(0,))).copies


def build_policy(name: str, around: Surroundings, *, merge: float = 0.0) -> SharingPolicy:
    """The policy ``name``; ``merge`` is the share of tokens merged into those of the knots.

    Raises OperatorError for an unknown name, or one that does not merge.
    """
    if name not in _POLICIES:
        known = ", ".join(sorted(_POLICIES))
        raise OperatorError(f"consistency.sharing: {name!r} is unknown; use one of {known}")
    if merge == 0.0:
        return _POLICIES[name](around)
    if name not in ("knots", "knots_hard"):
        raise OperatorError(f"consistency.merge: {name!r} has no knots to merge into; use knots, or merge: 0")
    return Merged(around.grid, around.fields, merge, hard=name == "knots_hard")


def matcher(name: str) -> Matcher:
    """How policy ``name`` matches tokens."""
    return in_window if name == "correspondence" else everywhere
