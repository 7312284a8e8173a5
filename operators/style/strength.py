"""What ``strength`` of a stylization does, from 0 (nothing) to 1.

How far the schedule goes back (Meng et al. 2022, SDEdit) decides how much of the content may change and says
little of the palette, which was transported whole however few steps were walked. So strength also weighs that
transport: along displacement interpolation (McCann 1997) the 2-Wasserstein distance to the style falls as
1 - weight. The first part of the way counts most, since histograms hardly change any more once colours have
almost arrived; the exponent is ours.
"""

from __future__ import annotations


def colour_weight(strength: float) -> float:
    """Share in [0, 1] of the colour transport at ``strength`` in [0, 1]; strictly increasing."""
    return 1.0 - (1.0 - strength) ** 3


def schedule_share(strength: float, depth: float) -> float:
    """Share in [0, 1] of the schedule that is walked; ``depth`` is what strength 1 walks."""
    return strength * depth
