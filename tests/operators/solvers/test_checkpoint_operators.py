"""Methods with weights of their own: the manifest, bridges in closed form, and a bridge of the real class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from operators.closed_form.mixture import (
    ChainDraws,
    VectorMixture,
    gaussian_vector_prior,
    orthonormal_measurement,
)
from operators.degradations.base import ForwardOperator
from operators.degradations.super_resolution import AreaDownsampling
from operators.errors import ModelError
from operators.solvers.base import restore
from operators.solvers.cddb import Cddb, bridge_weights
from operators.solvers.checkpoints import CheckpointManifest
from operators.solvers.image_bridge import BridgeRestorer, ImageBridge, bridge_deviations
from tests.support.shared import golden
from tests.support.tiny_models import save_tiny_bridge

STD = bridge_deviations()


# --- the bridge --------------------------------------------------------------------------------------


def test_the_schedule_of_the_bridge_is_the_published_one() -> None:
    torch.testing.assert_close(STD, golden("cddb_a")[0]["std_fwd"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("index", "later"), [(999, 900), (500, 499), (30, 0)])
def test_the_weights_of_a_bridge_step_sum_to_one_and_shrink_the_variance(index: int, later: int) -> None:
    weights = bridge_weights(STD[index].double(), STD[later].double())
    assert float(weights.at_x0 + weights.at_x) == pytest.approx(1.0)
    # x' given x0 has the variance of the bridge at the later index.
    variance = weights.at_x**2 * STD[index].double() ** 2 + weights.std**2
    assert float(variance) == pytest.approx(float(STD[later]) ** 2, rel=1e-6)


@dataclass
class ExactBridge:
    """E[x0 | x_t] for Gaussian x0 and x_t = x0 + std n: a bridge whose far end is only noise."""

    prior: VectorMixture
    std_fwd: Tensor

    def start(self, y: Tensor, operator: ForwardOperator) -> Tensor:
        return operator.pinv(y)

    def predict_x0(self, x: Tensor, index: int) -> Tensor:
        covariance, mean = self.prior.covariances[0], self.prior.means[0]
        gain = covariance @ torch.linalg.inv(
            covariance + self.std_fwd[index].double() ** 2 * torch.eye(len(mean), dtype=torch.float64)
        )
        return (mean + (x.flatten(1) - mean) @ gain.T).view_as(x)


def bridge_problem() -> tuple[ExactBridge, ForwardOperator, Tensor]:
    prior = gaussian_vector_prior(8)
    operator = orthonormal_measurement(8, 4)
    x = prior.draw(3)
    return ExactBridge(prior, STD), operator, operator.apply(x)


@pytest.mark.parametrize(("step_size", "left"), [(0.0, 1.0), (0.5, 0.0), (1.0, -1.0)])
def test_where_a_is_orthonormal_half_a_step_removes_the_residual_and_a_whole_one_reflects_it(
    step_size: float, left: float
) -> None:
    bridge, operator, y = bridge_problem()
    solver = Cddb(operator, (600, 0), step_size, deterministic=True)
    state = solver.start(y, y, bridge)
    x0 = bridge.predict_x0(state.z, 600)
    weights = bridge_weights(STD[600], STD[0])
    without = weights.at_x0 * x0 + weights.at_x * state.z
    moved = solver.step(0, state, bridge).z
    change = operator.apply(moved - without)
    before = operator.apply(x0) - y
    torch.testing.assert_close(before * float(weights.at_x0) + change, left * before * float(weights.at_x0))


def test_the_deep_variant_goes_through_the_network() -> None:
    bridge, operator, y = bridge_problem()
    shallow = Cddb(operator, (600, 300, 0), 0.3, deterministic=True)
    deep = replace(shallow, deep=True)
    state = shallow.start(y + 0.5, y, bridge)
    x0 = bridge.predict_x0(state.z, 600)
    _, pull = deep._estimate(state.z, 600, state.y, bridge)
    at_x0 = 2.0 * operator.adjoint(operator.apply(x0) - state.y)
    probe = bridge.predict_x0(at_x0, 600) - bridge.predict_x0(torch.zeros_like(at_x0), 600)
    # The exact bridge is affine with a symmetric gain: J^T g = gain g.
    torch.testing.assert_close(pull, probe)


def test_data_consistency_lowers_the_residual_of_a_bridge() -> None:
    bridge, operator, y = bridge_problem()
    y = y + 0.3
    visited = (999, 750, 500, 250, 0)
    residuals = []
    for size in (0.0, 0.5):
        x = restore(Cddb(operator, visited, size), y, y, bridge, ChainDraws(1))
        residuals.append(float((operator.apply(x) - y).norm()))
    assert residuals[1] < 0.5 * residuals[0]


# --- a checkpoint of the real class ------------------------------------------------------------------


def test_a_bridge_checkpoint_restores_pictures_of_the_promised_size(tmp_path: Path) -> None:
    bridge = ImageBridge.read(save_tiny_bridge(tmp_path))
    restorer = BridgeRestorer(bridge, lambda h, w: AreaDownsampling(h, w, 2), scale=2, multiple=2, steps=5)
    y = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x = restorer.restore(y, ChainDraws(0))
    assert x.shape == (2, 3, 16, 24)
    alone = restorer.restore(y[:1], ChainDraws(0))
    assert alone.shape == (1, 3, 16, 24)
    # An untrained network estimates badly, and still its pictures measure as they should.
    assert float((AreaDownsampling(16, 24, 2).apply(x) - y).abs().mean()) < 0.2


def test_a_size_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    bridge = ImageBridge.read(save_tiny_bridge(tmp_path))
    restorer = BridgeRestorer(bridge, lambda h, w: AreaDownsampling(h, w, 1), scale=1, multiple=8, steps=2)
    with pytest.raises(ModelError, match="13x8 pixels"):
        restorer.restore(torch.zeros(1, 3, 8, 13), ChainDraws(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "oracle"}, "kind 'oracle' is unknown"),
        ({"kind": "one_step"}, "is no bridge"),
        ({"licence": ""}, "licence is missing"),
        ({"weights": ["../bridge.safetensors"]}, "outside the checkpoint"),
        ({"weights": ["bridge.ckpt"]}, "no safetensors"),
        ({"weights": ["other.safetensors"]}, "other.safetensors is missing"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_by_name(
    changes: dict, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "bridge"
    folder.mkdir()
    with pytest.raises(ModelError, match=message):
        ImageBridge.read(save_tiny_bridge(folder, **changes))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_bridge(tmp_path)
    save_file({"a": torch.zeros(1)}, folder / "bridge.safetensors")
    with pytest.raises(ModelError, match=r"bridge\.safetensors cannot be loaded"):
        ImageBridge.read(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"checkpoint\.json cannot be read"):
        CheckpointManifest.read(tmp_path)
