"""The best matches in a sliding window (COVE, Wang et al. 2024, arXiv 2406.08850).

The paper compares diffusion features of neighbouring frames at t = 261 within a window of l = 9 cells and
keeps the K = 3 most similar tokens. It does not say what happens at the border; our reading: the window is
clipped to the picture.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from operators.correspondence.cosine import Matches, unit_tokens
from operators.errors import OperatorError

WINDOW, BEST = 9, 3


def window_matches(
    queries: Tensor, targets: Tensor, size: tuple[int, int], *, window: int = WINDOW, best: int = BEST
) -> Matches:
    """The ``best`` most similar of ``targets`` around the same place, for each of ``queries``.

    Both are tokens [h w, C] of frames of ``size`` (h, w), row by row; ``window`` is the odd side of the
    window in cells. Ties go to the cell nearest to the top left. Raises OperatorError when the window is
    even or a clipped window holds fewer than ``best`` cells.
    """
    _check(size, window, best)
    height, width = size
    unit_queries, unit_targets = unit_tokens(queries), unit_tokens(targets)
    cells = torch.arange(height * width, device=queries.device)
    y, x = cells // width, cells % width
    reach = range(-(window // 2), window // 2 + 1)
    similarities, indices = [], []
    for dy, dx in itertools.product(reach, reach):
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        index = torch.where(inside, cells + dy * width + dx, cells)
        similarity = (unit_queries * unit_targets[index]).sum(1)
        similarities.append(similarity.masked_fill(~inside, -torch.inf))
        indices.append(index)
    ordered, order = torch.stack(similarities, 1).sort(dim=1, descending=True, stable=True)
    return Matches(torch.stack(indices, 1).gather(1, order[:, :best]), ordered[:, :best])


def fewest_cells(size: tuple[int, int], window: int) -> int:
    """Cells of a window that is clipped at a corner of a frame of ``size``."""
    return min(window // 2 + 1, size[0]) * min(window // 2 + 1, size[1])


def _check(size: tuple[int, int], window: int, best: int) -> None:
    if window < 1 or window % 2 == 0:
        raise OperatorError(f"window: {window} is not an odd number of cells; the paper's is {WINDOW}")
    fewest = fewest_cells(size, window)
    if not 1 <= best <= fewest:
        raise OperatorError(
            f"best: {best} matches do not fit a window of {window} in {size[1]}x{size[0]} cells, which holds "
            f"{fewest} at a corner; use fewer matches or a larger window"
        )
