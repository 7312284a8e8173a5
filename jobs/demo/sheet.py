"""One picture of the demo: degraded, restored and stylized, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PANEL = (480, 270)
_BAR = 28


def write_sheet(path: Path, panels: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write a JPEG with one captioned panel per (label, RGB [h, w, 3] uint8)."""
    import cv2

    columns = []
    for label, rgb in panels:
        picture = cv2.resize(rgb[..., ::-1], _PANEL, interpolation=cv2.INTER_CUBIC)
        bar = np.full((_BAR, _PANEL[0], 3), 24, np.uint8)
        cv2.putText(bar, label, (10, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (235, 235, 235), 1, cv2.LINE_AA)
        columns.append(np.vstack([picture, bar]))
    cv2.imwrite(str(path), np.hstack(columns), [cv2.IMWRITE_JPEG_QUALITY, 88])
