"""A forward operator given by its matrix: for priors in closed form and recorded operators."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator


class DenseOperator(ForwardOperator):
    """y = ``matrix`` x with x flattened as (channel, row, column) of ``shape``, measurements of the shape
    ``measured``. Everything by dense linear algebra: small pictures only."""

    def __init__(self, matrix: Tensor, shape: tuple[int, int, int], measured: tuple[int, ...]) -> None:
        super().__init__(*shape[1:])
        self.matrix, self.shape, self.measured = matrix, shape, measured

    def apply(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.to(x).T).view(-1, *self.measured)

    def adjoint(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.matrix.to(y)).view(-1, *self.shape)

    def pinv(self, y: Tensor) -> Tensor:
        inverse = torch.linalg.pinv(self.matrix.double()).to(y)
        return (y.flatten(1) @ inverse.T).view(-1, *self.shape)

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        matrix = self.matrix.to(x)
        system = torch.eye(matrix.shape[1], dtype=x.dtype) + gamma * matrix.T @ matrix
        rhs = (x + gamma * self.adjoint(y)).flatten(1)
        return torch.linalg.solve(system, rhs.T).T.view(x.shape)

    def classical(self, y: Tensor) -> Tensor:
        return self.pinv(y)
