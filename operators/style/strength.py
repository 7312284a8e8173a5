"""What ``strength`` of a stylization does, from 0 (nothing) to 1.

How far the schedule goes back (Meng et al. 2022, SDEdit) decides how much of the content may change and says
little of the style: whole palettes were transported however few steps were walked. So strength also weighs
that transport. The first part of the way counts most, since histograms hardly change any more where colours
have almost arrived; the exponent is ours, chosen so that the usual 0.6 keeps most of the style.
"""

from __future__ import annotations


def colour_weight(strength: float) -> float:
    """Share in [0, 1] of the colour transport at ``strength`` in [0, 1]; strictly increasing."""
    return 1.0 - (1.0 - strength) ** 3
