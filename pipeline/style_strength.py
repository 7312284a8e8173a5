"""What ``strength`` of a stylization does, from 0 (nothing) to 1.

How far the schedule goes back (Meng et al. 2022, SDEdit) decides how much of the content may change and says
little of the palette, which is transported whole however few steps are walked; measured, more steps even
leave colours a little further from the style. So the upper half of the control is the weight of the transport
alone: along displacement interpolation (McCann 1997) the 2-Wasserstein distance to the style falls as
1 - weight. The lower half also shortens the walk, so that nothing is left of the edit where strength goes
to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Strength from which the schedule is walked as deep as it will be; ours.
DEEP = 0.5


def at_strength(stylize: Mapping[str, Any]) -> Mapping[str, Any]:
    """A ``stylize`` mapping whose ``method.statistics``, where it has them, are weighed by its strength."""
    method = stylize["method"]
    if "statistics" not in method:
        return stylize
    weighed = method["statistics"] * colour_weight(stylize["strength"])
    return {**stylize, "method": {**method, "statistics": weighed}}


def colour_weight(strength: float) -> float:
    """Share in [0, 1] of the colour transport at ``strength`` in [0, 1]; strictly increasing. The first part
    of the way counts most, since histograms change little once colours have almost arrived."""
    return 1.0 - (1.0 - strength) ** 2


def schedule_share(strength: float, depth: float) -> float:
    """Share in [0, 1] of the schedule that is walked, never falling; ``depth`` is the most."""
    return depth * min(1.0, strength / DEEP)
