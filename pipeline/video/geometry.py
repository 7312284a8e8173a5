"""Facts about display matrices."""

from __future__ import annotations


def is_rotation(matrix: tuple[int, ...] | None) -> bool:
    """Whether a display matrix only turns or mirrors by right angles, all that Matroska can say."""
    if matrix is None:
        return False
    return all(v in (0, 65536, -65536) for v in matrix[:8]) and matrix[2] == matrix[5] == 0
