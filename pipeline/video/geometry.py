"""Aspect ratio and display matrix of pictures whose size has changed."""

from __future__ import annotations

from fractions import Fraction

from pipeline.video.types import Geometry


def is_rotation(matrix: tuple[int, ...] | None) -> bool:
    """Whether a display matrix only turns or mirrors by right angles, all that Matroska can say."""
    if matrix is None:
        return False
    return all(v in (0, 65536, -65536) for v in matrix[:8]) and matrix[2] == matrix[5] == 0


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
