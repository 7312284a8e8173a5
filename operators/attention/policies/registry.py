"""From the ``consistency.sharing`` of a job to what its frames read."""

from __future__ import annotations

from collections.abc import Callable

from operators.attention.policies.base import SharingPolicy
from operators.attention.policies.knots import Knots
from operators.attention.policies.scene import Anchors, Independent
from operators.errors import OperatorError

Grid = tuple[int, ...]

_POLICIES: dict[str, Callable[[Grid], SharingPolicy]] = {
    "none": lambda grid: Independent(),
    "anchors": lambda grid: Anchors(),
    "knots_hard": lambda grid: Knots(grid, hard=True),
    "knots": lambda grid: Knots(grid),
}


def build_policy(name: str, grid: Grid) -> SharingPolicy:
    """The policy ``name`` for frames among the knots ``grid`` (absolute ordinals, ascending).

    Raises OperatorError for an unknown name.
    """
    if name not in _POLICIES:
        known = ", ".join(sorted(_POLICIES))
        raise OperatorError(f"consistency.sharing: {name!r} is unknown; use one of {known}")
    return _POLICIES[name](grid)
