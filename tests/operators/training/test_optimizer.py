"""The two optimizers behind one step: what each changes, by how much, and that checkpoints continue."""

from __future__ import annotations

import io
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from operators.training.optimizer import ADAM_RATE, CLIP, MUON_RATE, HybridOptimizer


def network() -> nn.Sequential:
    """A first, a middle and a last layer, named as in the real networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            OrderedDict(
                conv_in=nn.Conv2d(3, 4, 3),
                middle=nn.Conv2d(4, 8, 3),
                norm=nn.GroupNorm(2, 8),
                wide=nn.Conv2d(8, 6, 1),
                conv_out=nn.Conv2d(6, 3, 1),
            )
        )


def set_gradients(net: nn.Module, seed: int, size: float = 1e-2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for weight in net.parameters():
        weight.grad = size * torch.randn(weight.shape, generator=generator)
    return {name: weight.grad.clone() for name, weight in net.named_parameters()}


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in net.named_parameters()}


@pytest.mark.parametrize("name", ["middle.weight", "wide.weight"])
def test_a_step_changes_a_convolution_by_a_semi_orthogonal_matrix(name: str) -> None:
    net = network()
    before = weights(net)
    gradients = set_gradients(net, 1)
    HybridOptimizer(net).step(1.0)
    change = (before[name] - net.get_parameter(name).detach()).flatten(1) / MUON_RATE
    # Muon's polynomial puts singular values near one, not on it.
    values = torch.linalg.svdvals(change)
    assert len(values) == min(change.shape)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    # The nearest semi-orthogonal matrix U V^T of the gradient U S V^T has the same singular vectors.
    u, _, vh = torch.linalg.svd(gradients[name].flatten(1), full_matrices=False)
    aligned = u.T @ change @ vh.T
    assert float(aligned.diag().min()) > 0.6
    torch.testing.assert_close(aligned, aligned.diag().diag(), atol=0.05, rtol=0)


def test_first_and_last_layers_norms_and_biases_take_the_step_of_adam() -> None:
    net = network()
    before = weights(net)
    gradients = set_gradients(net, 1)
    HybridOptimizer(net).step(1.0)
    adam = [name for name in before if name not in ("middle.weight", "wide.weight")]
    assert {"conv_in.weight", "conv_out.weight", "norm.weight", "middle.bias"} <= set(adam)
    for name in adam:
        # The first step of Adam is the sign of the gradient.
        expected = before[name] - ADAM_RATE * gradients[name].sign()
        torch.testing.assert_close(net.get_parameter(name).detach(), expected, atol=2e-5, rtol=0)


def test_the_rate_scales_every_step() -> None:
    changes = []
    for rate in (1.0, 0.25):
        net = network()
        before = weights(net)
        set_gradients(net, 1)
        HybridOptimizer(net).step(rate)
        changes.append({name: before[name] - weight for name, weight in weights(net).items()})
    for name in changes[0]:
        torch.testing.assert_close(0.25 * changes[0][name], changes[1][name], atol=1e-6, rtol=1e-3)


def test_a_rate_of_zero_changes_nothing_and_gradients_are_forgotten() -> None:
    net = network()
    before = weights(net)
    set_gradients(net, 1)
    HybridOptimizer(net).step(0.0)
    assert all(torch.equal(before[name], weight) for name, weight in weights(net).items())
    assert all(weight.grad is None for weight in net.parameters())


def test_large_gradients_are_clipped_together() -> None:
    """Adam forgets the size of a single gradient but not the relation of two."""
    ends = []
    for size in (1.0, 1e4):
        net = network()
        optimizer = HybridOptimizer(net)
        set_gradients(net, 1, size)
        norm = torch.linalg.vector_norm(torch.cat([w.grad.flatten() for w in net.parameters()]))
        assert float(norm) > CLIP
        optimizer.step(1.0)
        set_gradients(net, 2, 1e-2)
        optimizer.step(1.0)
        ends.append(weights(net))
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], atol=1e-5, rtol=0)


def test_a_restored_optimizer_continues_with_the_same_bits() -> None:
    net = network()
    optimizer = HybridOptimizer(net)
    for seed in range(3):
        set_gradients(net, seed)
        optimizer.step(1.0)
    file = io.BytesIO()
    torch.save({"network": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    for seed in (10, 11):
        set_gradients(net, seed)
        optimizer.step(0.5)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network()
    restored = HybridOptimizer(other)
    other.load_state_dict(saved["network"])
    restored.load_state_dict(saved["optimizer"])
    for seed in (10, 11):
        set_gradients(other, seed)
        restored.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))

    fresh = network()
    fresh.load_state_dict(saved["network"])
    forgetful = HybridOptimizer(fresh)
    for seed in (10, 11):
        set_gradients(fresh, seed)
        forgetful.step(0.5)
    assert not torch.equal(fresh.middle.weight, net.middle.weight)
    assert not torch.equal(fresh.norm.weight, net.norm.weight)
