"""Which frames share network calls under each policy."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.batches import batches_of, knots_around
from pipeline.settings import ConsistencySettings

GRID = (0, 4, 8)


@pytest.mark.parametrize(
    ("how", "frames", "batches"),
    [
        ({"frames_per_batch": 2}, [1, 2, 3, 5, 6, 7], [[1, 2], [3, 3], [5, 6], [7, 7]]),
        ({"frames_per_batch": 1}, [3, 4], [[3], [4]]),
        ({"sharing": "chunk_joint"}, [1, 2, 5], [[1, 2, 5]]),
        ({"sharing": "chunk_first", "frames_per_batch": 2}, [0, 1, 2, 3, 5], [[0], [1, 2], [3, 3], [5, 5]]),
        ({"sharing": "chunk_joint"}, [], []),
        ({"sharing": "chunk_first"}, [], []),
    ],
)
def test_batches_are_what_the_policy_wants(
    how: dict[str, Any], frames: list[int], batches: list[list[int]]
) -> None:
    assert batches_of(ConsistencySettings(**how), frames, GRID) == batches


def test_the_knots_around_a_frame_hold_those_that_it_reads() -> None:
    assert knots_around(2, GRID) == {0, 4}
    assert knots_around(7, GRID) == {4, 8}
    assert knots_around(0, GRID) == {0}
    assert 4 in knots_around(4, GRID)
