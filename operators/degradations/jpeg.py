"""JPEG: rounding of block cosine coefficients (ITU-T T.81 baseline, tables of annex K)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import NonlinearOperator
from operators.degradations.cosine import cosine_basis
from operators.errors import OperatorError

BLOCK = 8

# Annex K.1, row by row.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
# Beyond these frequencies every chroma step is 99.
_CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
_CHROMA = tuple((*row, 99, 99, 99, 99) for row in (*_CHROMA_CORNER, *[(99, 99, 99, 99)] * 4))
# JFIF: full-range BT.601, chroma without offset.
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


class Jpeg(NonlinearOperator):
    """y = decoded JPEG of x, before the decoder's clipping and rounding to 8 bits.

    ``quality`` 1 to 100 as in libjpeg; ``chroma`` 4:4:4, or 4:2:0 with 2x2 means and nearest upsampling.
    Sides must be multiples of 8 (16 for 4:2:0), the picture beginning on the block grid.

    Autograd passes straight through the rounding. A(A(x)) = A(x), so A^+ y = y. The set of pictures that
    compress to y is a box around its coefficients, |DCT(x) - DCT(y)| <= Q/2; ``project`` is its nearest
    point in the space of YCbCr planes, and ``prox`` that of half the squared distance to the box there:
    x + gamma / (1 + gamma) (P x - x). This data term is our reading.
    """

    has_pinv = True
    has_prox = True

    def __init__(
        self, height: int, width: int, quality: int, chroma: Literal["4:4:4", "4:2:0"] = "4:2:0"
    ) -> None:
        super().__init__(height, width)
        if not 1 <= quality <= 100:
            raise OperatorError(f"degradation.quality: {quality} is outside [1, 100]")
        if chroma not in ("4:4:4", "4:2:0"):
            raise OperatorError(f"degradation.chroma: {chroma!r} is unknown; use 4:4:4 or 4:2:0")
        block = block_side(chroma)
        self.subsampling = block // BLOCK
        if height % block or width % block:
            raise OperatorError(
                f"degradation.kind: jpeg with chroma {chroma} needs sides that are multiples of {block}, the "
                f"picture has {width}x{height}; repeat its last row and column up to the next multiple"
            )
        self._tables = (quantisation_table(_LUMA, quality), quantisation_table(_CHROMA, quality))
        self._basis = cosine_basis(BLOCK)
        self._to_ycc = torch.tensor(_TO_YCC, dtype=torch.float64)

    def apply(self, x: Tensor) -> Tensor:
        luma, chroma = self._coefficients(x)
        return self._picture(*(_round(c, self._like(q, x)) for c, q in self._quantised(luma, chroma)))

    def pinv(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return x + gamma / (1.0 + gamma) * (self.project(x, y) - x)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest picture to ``x`` that compresses to ``y``."""
        seen = self._quantised(*self._coefficients(y))
        own = self._coefficients(x)
        moves = []
        for at, (centre, table) in zip(own, seen, strict=True):
            step = self._like(table, x)
            centre = (centre / step).round() * step
            moves.append(torch.minimum(torch.maximum(at, centre - step / 2), centre + step / 2) - at)
        return x + self._picture(*moves, offset=0.0)

    def classical(self, y: Tensor) -> Tensor:
        return y

    def _quantised(self, luma: Tensor, chroma: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        return (luma, self._tables[0]), (chroma, self._tables[1])

    def _coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Block coefficients of luma [B, 1, h, w, 8, 8] and both chroma planes, in units of 8-bit codes."""
        planes = torch.einsum("ij,bjhw->bihw", self._like(self._to_ycc, x), 127.5 * x)
        # Codes are 127.5 (x + 1) - 128.
        luma, chroma = planes[:, :1] - 0.5, planes[:, 1:]
        if self.subsampling > 1:
            chroma = F.avg_pool2d(chroma, self.subsampling)
        return self._transform(luma), self._transform(chroma)

    def _picture(self, luma: Tensor, chroma: Tensor, offset: float = 0.5) -> Tensor:
        """Inverse of ``_coefficients`` with chroma repeated; ``offset`` 0 for differences."""
        flat = self._inverse(chroma)
        if self.subsampling > 1:
            flat = F.interpolate(flat, scale_factor=self.subsampling, mode="nearest")
        planes = torch.cat([self._inverse(luma) + offset, flat], dim=1)
        to_rgb = self._like(torch.linalg.inv(self._to_ycc), planes)
        return torch.einsum("ij,bjhw->bihw", to_rgb, planes) / 127.5

    def _transform(self, planes: Tensor) -> Tensor:
        blocks = planes.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
        basis = self._like(self._basis, planes)
        return basis @ blocks @ basis.T

    def _inverse(self, coefficients: Tensor) -> Tensor:
        basis = self._like(self._basis, coefficients)
        blocks = basis.T @ coefficients @ basis
        batch, planes, rows, columns = blocks.shape[:4]
        return blocks.transpose(3, 4).reshape(batch, planes, rows * BLOCK, columns * BLOCK)

    @staticmethod
    def _like(constant: Tensor, x: Tensor) -> Tensor:
        return constant.to(x.dtype).to(x.device)


def block_side(chroma: str) -> int:
    """Pixels along the side of the smallest square that is coded whole: 16 with 4:2:0, else 8."""
    return 2 * BLOCK if chroma == "4:2:0" else BLOCK


def quantisation_table(base: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Annex K table scaled as libjpeg does, float64 (8, 8), steps 1 to 255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = torch.div(torch.tensor(base) * percent + 50, 100, rounding_mode="floor")
    return scaled.clamp(1, 255).double()


def _round(coefficients: Tensor, step: Tensor) -> Tensor:
    """To the nearest multiple of ``step``, with the gradient of the identity."""
    return coefficients + ((coefficients / step).round() * step - coefficients).detach()
