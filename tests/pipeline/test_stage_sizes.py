"""What enters a stage is padded to sides that both the model and the degradation can take."""

from __future__ import annotations

import pytest
import torch

from operators.degradations.registry import build_operator
from pipeline.enhancement.sizes import StageSizes

NOISE = {"restore": {"degradation": {"kind": "denoise", "noise": 0.1}}}


def jpeg(chroma: str) -> dict:
    return {"restore": {"degradation": {"kind": "jpeg", "quality": 30, "chroma": chroma}}}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [(NOISE, [24, 40]), (jpeg("4:4:4"), [24, 40]), (jpeg("4:2:0"), [32, 48])],
    ids=["denoise", "4:4:4", "4:2:0"],
)
def test_jpeg_with_halved_chroma_is_padded_to_whole_blocks_of_sixteen(stage: dict, expected: list) -> None:
    sizes = StageSizes((stage,), multiple=8, factor=8)
    y = torch.zeros(1, 3, 24, 36)
    padded = sizes.padded(0, y)
    assert list(padded.shape[2:]) == expected == sizes.padded_sides(0, (24, 36))
    assert sizes.cells(0, (24, 36)) == [side // 8 for side in expected]
    operator = build_operator(stage["restore"]["degradation"], *expected, {})
    assert operator.apply(padded).shape == padded.shape
