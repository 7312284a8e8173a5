"""`bench cost` on small networks: what is counted is what the job's own code asks of the network."""

from __future__ import annotations

import pytest

from jobs.bench import cost
from jobs.bench.cost_networks import SD15, Counted, SceneCost, closed_form, unit_scene
from jobs.bench.race import Lap, Race
from pipeline.plan import ScenePlan

SMALL = {
    **SD15,
    "sample_size": 64,
    "block_out_channels": (32, 64),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SCENE = ScenePlan(0, 0, 9, (0, 4, 8), (0, 8))


@pytest.fixture(scope="module")
def network() -> Counted:
    return Counted(SMALL)


def test_counting_one_frame_per_interval_and_one_more_is_counting_all(network: Counted) -> None:
    assert network.scene(SCENE) == network.scene(SCENE, every_frame=True)


def test_the_parts_of_a_scene_add_up_from_its_calls(network: Counted) -> None:
    """Six frames between knots, one knot that is no anchor; every task replays the anchors, and the frames'
    all three knots."""
    from operators.attention.policies.scene import Anchors
    from operators.replay import Trajectories

    found = network.scene(SCENE)
    scene = Trajectories(network.latents(2, 1))
    two, one = (network.flops([(o,) for o in ordinals], Anchors(), scene) for ordinals in ((1, 2), (1,)))
    knot, anchors = two - one, one - (two - one)
    # A replay of the anchors also merges their bank.
    assert found.anchors < anchors < 1.01 * found.anchors
    assert found.knots == anchors + knot
    assert found.unit == anchors + 3 * knot + 6 * found.frame
    assert found.independent_frame < knot < found.frame
    assert found.ratio > 1 + 7 / 9


def test_the_style_costs_its_replays_and_what_reading_it_takes(network: Counted) -> None:
    plain, styled = network.scene(SCENE), network.scene(SCENE, style=True)
    assert styled.independent_frame == plain.independent_frame
    assert styled.frame > plain.frame
    for task in ("anchors", "knots", "unit"):
        more = getattr(styled, task) - getattr(plain, task)
        assert more > plain.independent_frame


def test_a_unit_is_the_defaults_eight_intervals_and_its_last_knot() -> None:
    plan = unit_scene(8)
    assert (plan.first, plan.last, len(plan.knots), len(plan.anchors)) == (0, 129, 9, 4)


def test_the_closed_form_counts_every_reference_once() -> None:
    plan = unit_scene(8)
    assert closed_form(plan, 0.0, style=False) == pytest.approx(1 + 13 / 129)
    assert closed_form(plan, 0.1, style=True) == pytest.approx(1.1 * (1 + 14 / 129))


def test_targets_turn_ratios_over_and_fail_where_the_default_is_dear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a network that is dearer than allowed, and seconds that are not."""
    monkeypatch.setattr(cost, "SD15", SMALL)
    laps = tuple(Lap(wall, wall) for wall in (1.2, 1.3, 1.1))
    alone = (Lap(1.0, 1.0),) * 3
    monkeypatch.setattr(cost, "_race", lambda quick: (48, 1000, Race(laps, alone)))
    result = cost.run(quick=True)
    flops, seconds = result.targets
    assert [row["style"] for row in result.rows] == ["no", "yes"]
    assert flops.value == pytest.approx(1 / result.rows[0]["ratio"], abs=1e-4)
    assert flops.bound == 0.8
    assert (seconds.value, seconds.holds) == (pytest.approx(1 / 1.2, abs=1e-4), True)
    assert result.tables["seconds"][0]["kB of anchors"] == 1.0


def test_ratios_are_over_as_many_independent_frames() -> None:
    assert SceneCost(10, 100, 110, 300, 200, 700).ratio == pytest.approx(1.2)
    assert SceneCost(10, 100, 110, 300, 200, 700).bank_share == pytest.approx(0.1)
