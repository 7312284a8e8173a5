"""Operators that act on rows and columns separately: A X = L X R^T.

With the thin SVDs L = U_h S_h V_h^T and R = U_w S_w V_w^T the singular values of A are the products
of theirs, which makes the pseudo-inverse and the prox exact at the price of four small products.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator

# 1-D singular values below this count as zero in A^+ (Kawar et al. 2022, DDRM, released settings).
SINGULAR_THRESHOLD = 3e-2


class SeparableOperator(ForwardOperator):
    """A X = L X R^T per channel.

    ``left`` (h', H) acts on columns, ``right`` (w', W) on rows; both float64.
    ``pinv`` drops 1-D singular values below ``SINGULAR_THRESHOLD``; ``prox`` keeps all.
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        super().__init__(left.shape[1], right.shape[1])
        self.left = left
        self.right = right

    def apply(self, x: Tensor) -> Tensor:
        return _sandwich(self.left, x, self.right)

    def adjoint(self, y: Tensor) -> Tensor:
        return _sandwich(self.left.T, y, self.right.T)

    def pinv(self, y: Tensor) -> Tensor:
        left, right = self._pinvs
        return _sandwich(left, y, right)

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        # In the singular basis the normal equations are diagonal; what A does not see stays x.
        (u_h, s_h, v_h), (u_w, s_w, v_w) = self._svds
        s = torch.outer(s_h, s_w).to(x.dtype).to(x.device)
        residual = _sandwich(u_h.T, y, u_w.T) - s * _sandwich(v_h.T, x, v_w.T)
        return x + _sandwich(v_h, gamma * s / (1.0 + gamma * s.square()) * residual, v_w)

    @cached_property
    def _svds(self) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        return _thin_svd(self.left), _thin_svd(self.right)

    @cached_property
    def _pinvs(self) -> tuple[Tensor, Tensor]:
        (u_h, s_h, v_h), (u_w, s_w, v_w) = self._svds
        return v_h * _inverse(s_h) @ u_h.T, v_w * _inverse(s_w) @ u_w.T


def _sandwich(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    """left X right^T on the last two axes, in the dtype and on the device of ``x``."""
    return left.to(x.dtype).to(x.device) @ x @ right.T.to(x.dtype).to(x.device)


def _thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, vh.T


def _inverse(s: Tensor) -> Tensor:
    return torch.where(s >= SINGULAR_THRESHOLD, 1.0 / s.clamp_min(SINGULAR_THRESHOLD), torch.zeros_like(s))
