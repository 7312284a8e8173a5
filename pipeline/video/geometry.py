"""Which way up pictures are, and their aspect ratio and display matrix when their size has changed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipeline.video.types import Geometry

_ONE = 1 << 16


def is_rotation(matrix: tuple[int, ...] | None) -> bool:
    """Whether a display matrix only turns or mirrors by right angles, all that Matroska can say; where the
    picture then lies is left aside, since it follows from its size."""
    return matrix is not None and all(v in (0, _ONE, -_ONE) for v in matrix[:6]) and not any(matrix[2:6:3])


def scaled_sar(stored: Geometry, width: int, height: int) -> Fraction:
    """Sample aspect ratio that keeps the display aspect when x and y are scaled differently."""
    return stored.sample_aspect_ratio * Fraction(stored.width * height, stored.height * width)


def scaled_matrix(stored: Geometry, width: int, height: int) -> tuple[int, ...] | None:
    """Display matrix for pictures of another size: its translation is counted in pixels."""
    matrix = stored.display_matrix
    if matrix is None:
        return None
    across, down = Fraction(width, stored.width), Fraction(height, stored.height)
    if matrix[0] == 0:  # A quarter turn shows the height across.
        across, down = down, across
    return (*matrix[:6], round(matrix[6] * across), round(matrix[7] * down), matrix[8])


def upright(pictures: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Stored pictures [..., h, w, c] as a viewer sees them: turned and mirrored by the display matrix.

    Matrices that do more than right angles leave the pictures as they are stored.
    """
    swap, flip_rows, flip_columns = _moves(matrix)
    turned = np.swapaxes(pictures, -3, -2) if swap else pictures
    return _flipped(turned, flip_rows, flip_columns)


def as_upright_size(width: int, height: int, matrix: tuple[int, ...] | None) -> tuple[int, int]:
    """Width and height of stored pictures after `upright`."""
    return (height, width) if _moves(matrix)[0] else (width, height)


def as_stored(pictures: np.ndarray, matrix: tuple[int, ...] | None) -> np.ndarray:
    """Inverse of `upright`."""
    swap, flip_rows, flip_columns = _moves(matrix)
    turned = _flipped(pictures, flip_rows, flip_columns)
    return np.swapaxes(turned, -3, -2) if swap else turned


def is_turned(matrix: tuple[int, ...] | None) -> bool:
    """Whether `upright` changes anything."""
    return any(_moves(matrix))


def _moves(matrix: tuple[int, ...] | None) -> tuple[bool, bool, bool]:
    """Transpose, then flip rows, then flip columns (ISO 14496-12, 6.2.2: x' = a x + c y, y' = b x + d y)."""
    if matrix is None or matrix[2] or matrix[5]:
        return False, False, False
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if not a and not d and abs(b) == abs(c) == _ONE:
        return True, b < 0, c < 0
    if not b and not c and abs(a) == abs(d) == _ONE:
        return False, d < 0, a < 0
    return False, False, False


def _flipped(pictures: np.ndarray, rows: bool, columns: bool) -> np.ndarray:
    return pictures[..., :: -1 if rows else 1, :: -1 if columns else 1, :]
