"""Policies against each other: where two must agree, and where a knot must not show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

from operators.attention.harvest import Harvest
from operators.attention.install import install
from operators.attention.layer_call import LayerCall
from operators.attention.policies.base import References, SharingPolicy, Unit
from operators.attention.policies.chunk import ChunkFirst, ChunkJoint, SparseCausal
from operators.attention.policies.correspondence import Correspondence
from operators.attention.policies.first_frame import FirstFrame
from operators.attention.policies.knots import Knots
from operators.attention.policies.merged import Merged
from operators.attention.policies.propagated import Propagated
from operators.attention.policies.registry import Surroundings, build_policy
from operators.attention.policies.scene import Anchors, Independent
from operators.attention.reading import ALONE, Reader, Reading
from operators.attention.session import Record, SharedAttention
from operators.correspondence.cosine import Matches
from operators.correspondence.fields import Field, everywhere, field_between, in_window
from operators.correspondence.window import window_matches
from operators.errors import OperatorError
from tests.support.tiny_models import tiny_sd_unet

LATENT = (4, 16, 16)
GRID = (0, 4, 8)
TOKENS = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(5))


def latents(*seeds: int) -> torch.Tensor:
    return torch.stack([torch.randn(LATENT, generator=torch.Generator().manual_seed(s)) for s in seeds])


class Network:
    """A tiny UNet whose decoder shares attention, called at one timestep."""

    def __init__(self, session: SharedAttention, call: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.session, self.call = session, call

    def harvest(self, policy: SharingPolicy, z: torch.Tensor) -> Harvest:
        return self.session.harvest(lambda: self.call(z), keep=policy.keep)

    def features(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        keep = Propagated(GRID, {}).keep
        record = Record(Harvest(), dataclasses.replace(keep, inputs=True))
        with self.session.under(ALONE, record):
            self.call(z)
        return {layer: left.inputs[0] for (_, layer), left in record.harvest.layers.items()}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    torch.manual_seed(3)
    unet = tiny_sd_unet().eval().requires_grad_(False)
    with install(unet, decoder_only=True) as session:
        yield Network(
            session,
            lambda z: unet(z, 500, encoder_hidden_states=TOKENS.expand(len(z), -1, -1)).sample,
        )


class Step:
    """References of one step: knots, and anchors when given, replayed alone."""

    step, timestep, mirrored = 0, 500, ()

    def __init__(self, network: Network, policy: SharingPolicy, anchors: torch.Tensor | None = None) -> None:
        self.network, self.policy = network, policy
        self.style: Harvest | None = None
        self.anchors = None if anchors is None else network.harvest(policy, anchors)
        self.left: Mapping[int, Harvest] = {}

    def knot(self, ordinal: int) -> Harvest:
        return self.network.harvest(self.policy, latents(100 + ordinal))

    def style_reading(self) -> Reading:
        return ALONE

    def joint_reading(self) -> Reading:
        return Reading(joint=True)

    def scene_reading(self) -> Reading:
        return ALONE if self.anchors is None else Reading((Reader(self.anchors),))


@torch.no_grad()
def show(
    network: Network, policy: SharingPolicy, z: torch.Tensor, *ordinals: int, step: References | None = None
) -> torch.Tensor:
    """Network output of frames ``ordinals`` under ``policy``."""
    unit = Unit(torch.zeros(len(ordinals), 3, 1, 1), z, ordinals)
    with network.session.under(policy.reading(unit, step or Step(network, policy))):
        return network.call(z)


def fields(
    network: Network, frames: Mapping[int, torch.Tensor], match: object = everywhere
) -> dict[tuple[int, int], Field]:
    knots = {knot: network.features(latents(100 + knot)) for knot in GRID}
    return {
        (frame, knot): field_between(network.features(z), knots[knot], LATENT[1:], match)  # type: ignore[arg-type]
        for frame, z in frames.items()
        for knot in GRID
    }


def all_of_it(queries: torch.Tensor, targets: torch.Tensor, grid: tuple[int, int]) -> Matches:
    """Every token of the reference is a match."""
    return window_matches(queries, targets, grid, window=4 * max(grid) + 1, best=len(targets))


def test_reading_all_tokens_as_matches_is_reading_the_knots(network: Network) -> None:
    z = latents(1)
    known = fields(network, {1: z}, all_of_it)
    gathered = show(network, Correspondence(GRID, known, ()), z, 1)
    dense = show(network, Knots(GRID), z, 1)
    torch.testing.assert_close(gathered, dense, atol=1e-4, rtol=1e-4)


def test_anchors_are_read_as_matches_too(network: Network) -> None:
    z, anchors = latents(1), latents(100, 108)
    known = fields(network, {1: z}, all_of_it)
    policy = Correspondence(GRID, known, (0, 8))
    gathered = show(network, policy, z, 1, step=Step(network, policy, anchors))
    dense = show(network, Knots(GRID), z, 1, step=Step(network, Knots(GRID), anchors))
    torch.testing.assert_close(gathered, dense, atol=1e-4, rtol=1e-4)
    assert (dense - show(network, Knots(GRID), z, 1)).abs().max() > 1e-3


def test_merging_nothing_is_reading_the_knots(network: Network) -> None:
    z = latents(1)
    found = show(network, Merged(GRID, fields(network, {1: z}), 0.0), z, 1)
    torch.testing.assert_close(found, show(network, Knots(GRID), z, 1), atol=1e-5, rtol=1e-5)


def test_merging_everything_is_propagation_in_all_layers(network: Network) -> None:
    """Propagation leaves the layers alone that are as fine as the latent; of a latent said to be larger it
    leaves none."""
    z = latents(1)
    known = fields(network, {1: z})
    policy = Propagated(GRID, known)
    unit = Unit(torch.zeros(1, 3, 1, 1), torch.zeros(1, 4, 64, 64), (1,))
    with torch.no_grad(), network.session.under(policy.reading(unit, Step(network, policy))):
        propagated = network.call(z)
    merged = show(network, Merged(GRID, known, 1.0), z, 1)
    torch.testing.assert_close(merged, propagated, atol=1e-6, rtol=1e-6)
    assert (show(network, policy, z, 1) - propagated).abs().max() > 1e-3


def test_a_frame_that_is_a_knot_gets_that_knot_s_outputs_back(network: Network) -> None:
    """Its nearest tokens are its own, so propagation changes nothing."""
    z = latents(104)
    known = fields(network, {4: z})
    plain = show(network, Independent(), z, 4)
    torch.testing.assert_close(show(network, Merged(GRID, known, 1.0), z, 4), plain, atol=1e-5, rtol=1e-5)


WAYS = {
    "propagate": (lambda known: Propagated(GRID, known), everywhere),
    "merged": (lambda known: Merged(GRID, known, 0.5), everywhere),
    "correspondence": (lambda known: Correspondence(GRID, known, ()), in_window),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_knot_does_not_show_where_it_is_exchanged(
    network: Network, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture seen at positions just before and just after a knot becomes the same; far knots differ."""
    make, match = WAYS[way]
    z = latents(1)
    known = fields(network, {1: z}, match)
    found = {}
    for near, (left, right, weight) in {"before": (0, 4, 1e-6), "after": (4, 8, 1 - 1e-6)}.items():
        weights = {left: [weight], right: [1 - weight]}
        for module in ("views", "knots"):
            monkeypatch.setattr(
                f"operators.attention.policies.{module}.knot_weights", lambda *_, w=weights, **__: w
            )
        found[near] = show(network, make(known), z, 1)
    torch.testing.assert_close(found["before"], found["after"], atol=1e-4, rtol=1e-4)
    monkeypatch.undo()
    assert (show(network, make(known), z, 1) - found["before"]).abs().max() > 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_rows_read_their_own_references_and_matches(network: Network, way: str) -> None:
    make, match = WAYS[way]
    z = latents(1, 2, 3)
    known = fields(network, {n: z[n - 1 : n] for n in (1, 2, 3)}, match)
    together = show(network, make(known), z, 1, 2, 3)
    for row in range(3):
        alone = show(network, make(known), z[row : row + 1], row + 1)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)


def test_the_first_frame_takes_the_place_of_a_frame_s_own_keys(network: Network) -> None:
    """A frame without anything of its own to read: with the first frame's queries it would be that frame."""
    first, policy = latents(7), FirstFrame()
    step = Step(network, policy, first)
    plain = show(network, Independent(), first, 0)
    torch.testing.assert_close(show(network, policy, first, 0, step=step), plain, atol=1e-5, rtol=1e-5)
    z = latents(1)
    own_too = show(network, Anchors(), z, 5, step=step)
    assert (show(network, policy, z, 5, step=step) - own_too).abs().max() > 1e-3


def test_sparse_causal_reads_first_and_previous_and_nothing_else(network: Network) -> None:
    policy = SparseCausal(0)
    step = Step(network, policy, latents(7))
    unit = Unit(torch.zeros(1), latents(1), (6,))
    begin = policy.reading(unit, step)
    assert begin.record
    assert begin.own
    assert len(begin.readers) == 1
    step.left = {5: network.harvest(policy, latents(2))}
    then = policy.reading(unit, step)
    assert not then.own
    assert [reader.harvest for reader in then.readers] == [step.anchors, step.left[5]]
    second = policy.reading(Unit(torch.zeros(1), latents(1), (1,)), step)
    assert not second.own
    assert [reader.harvest for reader in second.readers] == [step.anchors]


def test_chunk_policies_read_their_chunk(network: Network) -> None:
    step = Step(network, ChunkJoint())
    unit = Unit(torch.zeros(2), latents(1, 2), (5, 6))
    assert ChunkJoint().reading(unit, step).joint
    first = ChunkFirst(4)
    opening = first.reading(Unit(torch.zeros(1), latents(1), (4,)), step)
    assert opening.record
    assert opening.readers == ()
    step.left = {4: network.harvest(first, latents(2))}
    then = first.reading(unit, step)
    assert then.own
    assert [reader.harvest for reader in then.readers] == [step.left[4]]


def test_outputs_that_were_not_kept_are_missed_by_name(network: Network) -> None:
    z = latents(1)
    policy = Propagated(GRID, fields(network, {1: z}), keep=Knots(GRID).keep)
    with pytest.raises(OperatorError, match=r"up_blocks.*outputs were not kept"):
        show(network, policy, z, 1)


@pytest.mark.parametrize(("name", "merge"), [("tokenflow", 0.0), ("anchors", 0.5)])
def test_unknown_policies_and_impossible_merging_are_refused(name: str, merge: float) -> None:
    with pytest.raises(OperatorError, match=r"consistency\.(sharing|merge)"):
        build_policy(name, Surroundings(0), merge=merge)


def test_a_replacement_is_asked_with_the_branch_of_the_call(network: Network) -> None:
    asked: list[str] = []

    def look(call: LayerCall) -> None:
        asked.append(call.branch)

    network.session.branch = "uncond"
    with torch.no_grad(), network.session.under(Reading(replace=look)):
        network.call(latents(1))
    network.session.branch = "cond"
    assert set(asked) == {"uncond"}
