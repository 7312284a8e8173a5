"""What a policy can ask for: what layers saw and said, what units before left, to stand in for a layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from operators.attention.harvest import Harvest, Keep
from operators.attention.install import install
from operators.attention.layer_call import LayerCall
from operators.attention.policies.base import ONCE, Copies, References, Unit
from operators.attention.policies.knots import knot_weights
from operators.attention.reading import Reader, Reading
from operators.attention.session import Record
from operators.errors import OperatorError
from operators.replay import Stage, run_stage
from operators.solvers.base import Prediction, State
from tests.operators.attention.layouts import Layout, layout


@pytest.fixture(scope="module")
def net() -> Layout:
    return layout("sd15")


class Prior:
    """The network and nothing around it."""

    def __init__(self, net: Layout) -> None:
        self.net = net

    def predict(self, z: Tensor, t: int) -> Prediction:
        return Prediction(self.net.call(z), z)

    def decode(self, z: Tensor) -> Tensor:
        return z


class TwoSteps:
    """Takes what the network says as the next latent, twice."""

    timesteps = (500, 200)

    def start(self, y: Tensor, noise: Tensor, prior: Prior) -> State:
        return State(noise, y)

    def step(self, i: int, state: State, prior: Prior) -> State:
        return State(prior.predict(state.z, self.timesteps[i]).z0, state.y)

    def finish(self, state: State, prior: Prior) -> Tensor:
        return state.z


@dataclass(frozen=True)
class Previous:
    """Each unit reads, in place of its own keys, the unit before it at the same step."""

    keep: Keep = field(default_factory=lambda: Keep(moments=False, norms=False))
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        before = references.left.get(unit.ordinals[0] - 1)
        if before is None:
            return Reading(record=True)
        return Reading((Reader(before),), own=False, record=True)


@torch.no_grad()
def test_units_can_read_what_the_one_before_left_at_the_same_step(net: Layout) -> None:
    """Against the same chain written out."""
    z = [net.latent(1, seed) for seed in (1, 2, 3)]
    with install(net.unet) as session:
        units = [Unit(x, x, (n,)) for n, x in enumerate(z)]
        found = run_stage(Stage(TwoSteps(), Prior(net), session), units, Previous())
        state = list(z)
        for _ in TwoSteps.timesteps:
            before: Harvest | None = None
            for n, x in enumerate(state):
                readers = () if before is None else (Reader(before),)
                record = Record(Harvest(), Keep(moments=False, norms=False))
                with session.under(Reading(readers, own=before is None), record):
                    state[n] = net.call(x)
                before = record.harvest
    for done, expected in zip(found, state, strict=True):
        torch.testing.assert_close(done.pictures, expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found[1].pictures, net.call(net.call(z[1])), atol=1e-3)


@torch.no_grad()
def test_outputs_that_were_kept_can_stand_in_for_a_layer(net: Layout) -> None:
    """With its own outputs put back the network says what it said; with those of another, of some layers,
    something else. Kept inputs are the tokens that the layers were called with."""
    z, seen = net.latent(1, 1), {}
    with install(net.unet) as session:
        own = session.harvest(lambda: net.call(z), keep=Keep(inputs=True, outputs=True))
        other = session.harvest(lambda: net.call(net.latent(1, 2)), keep=Keep(outputs=True))
        plain = net.call(z)

        def back(call: LayerCall) -> Tensor:
            seen[call.key] = call.tokens
            return own.layers[call.key].outputs

        def foreign(call: LayerCall) -> Tensor | None:
            late = call.layer.startswith("up_blocks.2")
            return other.layers[call.key].outputs if late else None

        with session.under(Reading(replace=back)):
            same = net.call(z)
        with session.under(Reading(replace=foreign)):
            moved = net.call(z)
        with session.under(Reading(replace=lambda call: None)):
            untouched = net.call(z)
    assert torch.equal(same, plain)
    assert torch.equal(untouched, plain)
    assert (moved - plain).abs().max() > 1e-3
    assert seen.keys() == own.layers.keys()
    assert all(torch.equal(tokens, own.layers[key].inputs) for key, tokens in seen.items())
    assert other.layers.keys() == own.layers.keys()
    assert all(layer.inputs is None for layer in other.layers.values())


def test_rows_of_a_batch_weigh_their_knots_each_by_its_place() -> None:
    assert knot_weights((1, 2, 3), (0, 4, 8), hard=False) == {0: [0.75, 0.5, 0.25], 4: [0.25, 0.5, 0.75]}
    assert knot_weights((4,), (0, 4, 8), hard=False) == {4: [1.0]}
    with pytest.raises(OperatorError, match="between two knots"):
        knot_weights((3, 5), (0, 4, 8), hard=False)
