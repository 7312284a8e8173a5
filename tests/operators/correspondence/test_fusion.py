"""Fusion of clean estimates along known motion."""

from __future__ import annotations

import pytest
import torch

from operators.correspondence.fusion import Knot, fused, fuses, warped


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def knot(seed: int, weight: float, *, flow: torch.Tensor | None = None, visible: float = 1.0) -> Knot:
    still = torch.zeros(1, 2, 6, 7)
    return Knot(
        z0=draw(1, 4, 6, 7, seed=seed),
        flow=still if flow is None else flow,
        visible=torch.full((1, 1, 6, 7), visible),
        weight=torch.tensor([weight]),
    )


def test_no_motion_leaves_a_picture_as_it_is() -> None:
    z = draw(1, 4, 6, 7, seed=1)
    torch.testing.assert_close(warped(z, torch.zeros(1, 2, 6, 7)), z)


def test_a_frame_moved_by_whole_cells_is_brought_back_exactly() -> None:
    z = draw(1, 4, 6, 7, seed=1)
    flow = torch.zeros(1, 2, 6, 7)
    flow[:, 0], flow[:, 1] = 2.0, -1.0
    torch.testing.assert_close(warped(z, flow)[:, :, 1:, :5], z[:, :, :-1, 2:])


def test_half_a_cell_is_the_mean_of_two() -> None:
    z = draw(1, 4, 6, 7, seed=1)
    flow = torch.zeros(1, 2, 6, 7)
    flow[:, 0] = 0.5
    torch.testing.assert_close(warped(z, flow)[..., :6], (z[..., :6] + z[..., 1:]) / 2)


def test_with_all_visible_it_is_the_published_blend() -> None:
    z0, u, s = draw(1, 4, 6, 7, seed=9), 0.3, 0.5
    left, right = knot(1, 1 - u), knot(2, u)
    expected = (1 - s) * z0 + s * ((1 - u) * left.z0 + u * right.z0)
    torch.testing.assert_close(fused(z0, (left, right), s), expected)


def test_hidden_parts_keep_the_frame_s_own_estimate() -> None:
    z0 = draw(1, 4, 6, 7, seed=9)
    left = knot(1, 0.5)
    left.visible[..., :3] = 0
    out = fused(z0, (left, knot(2, 0.5, visible=0.0)), 1.0)
    assert torch.equal(out[..., :3], z0[..., :3])
    torch.testing.assert_close(out[..., 3:], (z0 + left.z0)[..., 3:] / 2)


def test_a_knot_does_not_show_where_it_is_exchanged() -> None:
    """At the knot itself both intervals give the same, whatever the far knots are."""
    z0, here = draw(1, 4, 6, 7, seed=9), 3
    before = fused(z0, (knot(1, 0.0), knot(here, 1.0)), 0.5)
    after = fused(z0, (knot(here, 1.0), knot(2, 0.0)), 0.5)
    assert torch.equal(before, after)


def test_rows_have_flows_and_weights_of_their_own() -> None:
    z0 = draw(2, 4, 6, 7, seed=9)
    source = draw(1, 4, 6, 7, seed=1)
    flow = torch.zeros(2, 2, 6, 7)
    flow[1, 0] = 1.0
    both = Knot(source, flow, torch.ones(2, 1, 6, 7), torch.tensor([1.0, 0.5]))
    out = fused(z0, (both,), 1.0)
    for row in range(2):
        one = Knot(source, flow[row : row + 1], torch.ones(1, 1, 6, 7), both.weight[row : row + 1])
        torch.testing.assert_close(out[row : row + 1], fused(z0[row : row + 1], (one,), 1.0))


@pytest.mark.parametrize(("steps", "expected"), [(10, [5, 6, 7]), (4, [2, 3]), (1, []), (2, [1])])
def test_estimates_are_fused_in_the_second_half_but_not_at_the_end(steps: int, expected: list[int]) -> None:
    assert [i for i in range(steps) if fuses(i, steps)] == expected
