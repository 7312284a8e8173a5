"""Operators against matrices and outputs of published implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.colorization import Colorization
from operators.degradations.inpainting import Inpainting
from operators.degradations.kernels import cubic_kernel
from operators.degradations.separable import SeparableOperator
from operators.degradations.super_resolution import AreaDownsampling, CubicSubsampling
from tests.support.shared import golden


class MatrixOperator(SeparableOperator):
    """The published operator, given by its 1-D matrix."""

    def classical(self, y: Tensor) -> Tensor:
        return self.pinv(y)


def assert_matches(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    assert (ours.flatten() - reference.flatten()).abs().max() <= tolerance * reference.abs().max()


def assert_operator_matches(operator: ForwardOperator, name: str, side: int) -> None:
    tensors, facts = golden(name)
    tolerance = facts["tolerance"]
    q = tensors["q"].view(2, 3, side, side)
    applied = operator.apply(tensors["x"])
    for key, value in {
        "Ax": applied,
        "Atq": operator.adjoint(q),
        "Apinvq": operator.pinv(q),
        "A_pinv_Ax": operator.pinv(applied),
    }.items():
        assert_matches(value, tensors[f"out/{key}"], tolerance.get(key, tolerance["default"]))


def test_area_downsampling_reproduces_the_published_block_mean() -> None:
    assert_operator_matches(AreaDownsampling(16, 16, 4), "op_superres_a", side=4)


@pytest.mark.parametrize(("name", "side"), [("op_srconv_a", 4), ("op_deblur_a", 16)])
def test_a_separable_operator_reproduces_the_published_one_of_the_same_matrix(name: str, side: int) -> None:
    matrix = golden(name)[0]["A_1d"].double()
    assert_operator_matches(MatrixOperator(matrix, matrix), name, side)


def test_inpainting_reproduces_the_published_selection_of_pixels() -> None:
    tensors, facts = golden("op_inpainting_a")
    kept = tensors["kept_indices"].long()
    flags = np.zeros(16 * 16 * 3, dtype=np.uint8)
    flags[kept.numpy()] = 1
    mask = flags.reshape(16, 16, 3)
    assert (mask == mask[..., :1]).all()
    operator = Inpainting(mask[..., 0])
    scattered = torch.zeros(2, 16 * 16 * 3)
    scattered[:, kept] = tensors["q"]
    q = scattered.view(2, 16, 16, 3).permute(0, 3, 1, 2)
    applied = operator.apply(tensors["x"])
    tolerance = facts["tolerance"]["default"]
    assert_matches(applied.permute(0, 2, 3, 1).flatten(1)[:, kept], tensors["out/Ax"], tolerance)
    assert_matches(operator.adjoint(q), tensors["out/Atq"], tolerance)
    assert_matches(operator.pinv(q), tensors["out/Apinvq"], tolerance)
    assert_matches(operator.pinv(applied), tensors["out/A_pinv_Ax"], tolerance)


def test_cubic_subsampling_reproduces_the_published_strided_convolution() -> None:
    tensors, _ = golden("op_srconv_a")
    assert_matches(cubic_kernel(4), tensors["kernel"].double(), 1e-6)
    assert_operator_matches(CubicSubsampling(16, 16, 4), "op_srconv_a", side=4)


def test_colorization_reproduces_the_published_grey_channel() -> None:
    tensors, facts = golden("op_colorization_a")
    operator = Colorization(16, 16, tuple(facts["hparams"]["weights"]))
    tolerance = facts["tolerance"]["default"]
    q = tensors["q"].view(2, 1, 16, 16)
    applied = operator.apply(tensors["x"])
    assert_matches(applied, tensors["out/Ax"], tolerance)
    assert_matches(operator.adjoint(q), tensors["out/Atq"], tolerance)
    assert_matches(operator.pinv(q), tensors["out/Apinvq"], tolerance)
    assert_matches(operator.pinv(applied), tensors["out/A_pinv_Ax"], tolerance)
