"""Views: displacements that are true to the pixel, drawn from the key alone, at the side asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.noise import keyed_generator
from operators.training.pictures import Picture
from operators.training.sizes import SIDES, draw_side, rows_of
from operators.training.views import FAR, FAR_ONE_IN, NEAR, Views, draw_pictures, draw_views

SIDE = 96
COUNT = 200


def located(height: int, width: int, number: int) -> Tensor:
    """A level whose pixels say where they are: row, column and ``number``."""
    rows = torch.arange(height)[:, None].expand(height, width)
    columns = torch.arange(width)[None].expand(height, width)
    return torch.stack([rows, columns, torch.full((height, width), number)]).to(torch.uint8)


PICTURES = [
    Picture("one", (located(240, 200, 0), located(120, 100, 1))),
    Picture("two", (located(130, 250, 2),)),
    Picture("three", (located(250, 250, 3), located(125, 125, 4), located(97, 97, 5))),
]


def codes(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).round().long()


def views(*key: int | str, mixed: bool = True) -> Views:
    return draw_views(PICTURES, keyed_generator(*key), count=COUNT, side=SIDE, mixed=mixed)


def overlap(frame: Tensor, reference: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """What both crops show, cut from each."""

    def cut(x: Tensor, down: int, right: int) -> Tensor:
        height, width = x.shape[1:]
        return x[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]

    return cut(frame, down, right), cut(reference, -down, -right)


def test_a_displacement_says_where_each_pixel_of_the_frame_lies_in_its_reference() -> None:
    drawn = views("true")
    mirrored = 0
    for frame, reference, (down, right) in zip(
        codes(drawn.frames), codes(drawn.references), drawn.displacement.tolist(), strict=True
    ):
        mine, its = overlap(frame, reference, down, right)
        assert mine.numel() > 0
        assert torch.equal(mine, its)
        mirrored += int(frame[1, 0, 0] > frame[1, 0, -1])
    assert bool((drawn.displacement != 0).any(0).all())
    # Half of 200, with a standard deviation of 7.
    assert 65 <= mirrored <= 135


def test_displacements_stay_near_unless_far_views_are_asked_for() -> None:
    near, far = (views("reach", mixed=mixed).displacement.abs() for mixed in (False, True))
    assert int(near.max()) == NEAR
    assert NEAR < int(far.max()) <= FAR
    beyond = float((far.amax(1) > NEAR).float().mean())
    # A far pair is one in five; few of those stay near by chance or for want of room.
    assert 0.05 < beyond < 1 / FAR_ONE_IN + 0.1


def test_equal_keys_give_equal_views_whatever_was_drawn_before() -> None:
    first = views("key", 7)
    views("other", 1)
    torch.manual_seed(5)
    torch.rand(3)
    state = torch.random.get_rng_state()
    again, different = views("key", 7), views("key", 8)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.references, again.references)
    assert torch.equal(first.displacement, again.displacement)
    assert not torch.equal(first.frames, different.frames)


def test_earlier_rows_do_not_depend_on_how_many_follow() -> None:
    few = draw_views(PICTURES, keyed_generator("rows"), count=3, side=SIDE)
    more = draw_views(PICTURES, keyed_generator("rows"), count=9, side=SIDE)
    assert torch.equal(few.frames, more.frames[:3])
    assert torch.equal(few.displacement, more.displacement[:3])


@pytest.mark.parametrize("side", [96, 128, 192, 240])
def test_crops_have_the_side_asked_for_and_come_from_levels_that_hold_it(side: int) -> None:
    drawn = draw_views(PICTURES, keyed_generator("sides"), count=40, side=side)
    assert drawn.frames.shape == drawn.references.shape == (40, 3, side, side)
    assert drawn.displacement.shape == (40, 2)
    pictures = draw_pictures(PICTURES, keyed_generator("sides"), count=40, side=side)
    assert pictures.shape == (40, 3, side, side)
    levels = {number: min(x.shape[1:]) for p in PICTURES for x in p.levels for number in [int(x[2, 0, 0])]}
    for batch in (drawn.frames, pictures):
        found = set(codes(batch)[:, 2].unique().tolist())
        assert found <= {number for number, extent in levels.items() if extent >= side}


def test_every_level_that_holds_a_crop_is_drawn_and_the_coarsest_less_often() -> None:
    drawn = draw_pictures(PICTURES[2:], keyed_generator("levels"), count=500, side=SIDE)
    counts = torch.bincount(codes(drawn)[:, 2, 0, 0], minlength=6)[3:].tolist()
    # 2 : 2 : 1 of 500, with standard deviations of 11 and 9.
    assert counts == pytest.approx([200, 200, 100], abs=45)


def test_a_crop_is_a_window_of_its_picture_or_the_mirror_of_one() -> None:
    for crop in codes(draw_pictures(PICTURES, keyed_generator("crops"), count=30, side=SIDE)):
        y, number = int(crop[0, 0, 0]), int(crop[2, 0, 0])
        x = int(crop[1].min())
        level = next(v for p in PICTURES for v in p.levels if int(v[2, 0, 0]) == number).long()
        window = level[:, y : y + SIDE, x : x + SIDE]
        assert torch.equal(crop, window) or torch.equal(crop, window.flip(2))


@pytest.mark.parametrize("largest", [96, 130, 200, 600])
def test_sides_are_drawn_by_weight_among_those_that_fit(largest: int) -> None:
    generator = keyed_generator("side", largest)
    drawn = [draw_side(generator, largest) for _ in range(1000)]
    weights = {side: weight for side, weight in SIDES if side <= largest}
    assert set(drawn) == set(weights)
    for side, weight in weights.items():
        # At most half of 1000, with a standard deviation of 16.
        assert drawn.count(side) == pytest.approx(1000 * weight / sum(weights.values()), abs=65)


def test_batches_have_about_the_pixels_asked_for_and_never_no_rows() -> None:
    assert [rows_of(side, 262_144) for side, _ in SIDES] == [28, 16, 7, 4, 1]
    assert rows_of(512, 32_768) == 1
