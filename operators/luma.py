"""What of a colour is lightness: weights of R, G and B, readable without torch."""

from __future__ import annotations

#: ITU-R BT.601 luma, what grey film scans and the luma plane of standard-definition video hold.
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
