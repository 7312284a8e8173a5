"""What an edit leaves of its source: colours under a new luma, and regions bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from operators.luma import LUMA_WEIGHTS
from operators.pictures import to_pictures, to_tensor
from operators.style.colour_lock import lock_colours
from operators.style.kept_regions import keep_regions, kept_weights

#: Rec. 601 R'G'B' to Y, I, Q, as Gatys et al. use it.
YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]],
    dtype=torch.float64,
)


def colours(seed: int, spread: float = 1.0) -> torch.Tensor:
    return (torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1) * spread


def yiq(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("dc,bchw->bdhw", YIQ, x)


def luma(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("c,bchw->bhw", torch.tensor(LUMA_WEIGHTS, dtype=x.dtype), x)


def test_inside_the_cube_the_lock_is_the_luminance_only_transfer_of_the_paper() -> None:
    styled, source = colours(0, 0.3), colours(1, 0.3)
    wanted = torch.cat([yiq(styled)[:, :1], yiq(source)[:, 1:]], 1)
    expected = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(YIQ), wanted)
    # The rows of I and Q that are in use sum to zero in six digits.
    assert torch.allclose(lock_colours(styled, source), expected, atol=1e-5)


def test_colours_that_would_leave_the_cube_lose_saturation_and_neither_luma_nor_hue() -> None:
    styled, source = colours(2), colours(3)
    locked = lock_colours(styled, source)
    assert locked.abs().max() <= 1 + 1e-12
    assert torch.allclose(luma(locked), luma(styled), atol=1e-12)
    chroma, own = yiq(locked)[:, 1:], yiq(source)[:, 1:]
    shares = (chroma * own).sum(1) / own.square().sum(1)
    assert torch.allclose(chroma, shares[:, None] * own, atol=1e-5)
    assert 0 <= shares.min() < 0.9
    assert shares.max() == pytest.approx(1.0, abs=1e-6)


def test_locking_a_picture_to_itself_changes_no_code_and_a_grey_source_gives_grey() -> None:
    codes = np.random.Generator(np.random.PCG64(4)).integers(0, 256, (1, 8, 8, 3), np.uint8)
    x = to_tensor(codes)
    assert np.array_equal(to_pictures(lock_colours(x, x), np.dtype(np.uint8)), codes)
    grey = torch.zeros_like(x)
    locked = lock_colours(x, grey)
    assert torch.equal(locked[:, :1].expand(-1, 3, -1, -1), locked)


def test_the_soft_edge_lies_outside_what_is_kept_and_falls_with_the_distance() -> None:
    kept = np.zeros((1, 1, 12), dtype=bool)
    kept[0, 0, 3:5] = True
    weights = kept_weights(kept, 4)[0, 0, 0]
    assert weights.tolist() == [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0]
    assert torch.equal(kept_weights(kept, 0)[0, 0, 0], torch.from_numpy(kept[0, 0]).float())


def test_a_frame_without_kept_pixels_is_edited_all_over() -> None:
    kept = np.zeros((2, 6, 6), dtype=bool)
    kept[1] = True
    weights = kept_weights(kept, 3)
    edited, source = colours(5)[..., :6, :6], colours(6)[..., :6, :6]
    made = keep_regions(edited, source, weights)
    assert torch.equal(made[0], edited[0])
    assert torch.equal(made[1], source[1])


def test_kept_pixels_are_the_sources_bit_for_bit_and_far_ones_the_edits() -> None:
    kept = np.zeros((2, 9, 7), dtype=bool)
    kept[:, 2:5, 1:4] = True
    edited, source = colours(7).float(), colours(8).float()
    weights = kept_weights(kept, 2)
    made = keep_regions(edited, source, weights)
    inside = torch.from_numpy(kept)[:, None].expand_as(made)
    far = (weights == 0).expand_as(made)
    assert torch.equal(made[inside], source[inside])
    assert torch.equal(made[far], edited[far])
    between = made[~inside & ~far]
    assert between.numel()
    ends = torch.stack([edited, source])[:, ~inside & ~far]
    assert ((between >= ends.amin(0) - 1e-6) & (between <= ends.amax(0) + 1e-6)).all()
