"""Guidance on a stretch of the way: fewer network calls, and elsewhere the prompt alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from operators.acceleration.guidance_interval import guided_steps
from operators.acceleration.switches import cache_schedule
from operators.attention.install import install
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.models import LatentModel
from operators.prompted import prompted, prompted_within
from operators.solvers.ddim import leading_timesteps
from tests.support.tiny_models import save_tiny_sd

TIMESTEPS = leading_timesteps(5)


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[LatentModel, SharedAttention]]:
    torch.set_num_threads(1)
    model = LatentModel.from_pretrained(str(save_tiny_sd(tmp_path_factory.mktemp("model"))))
    with install(model.unet, decoder_only=True) as session:
        yield model, session


@pytest.mark.parametrize("rule", ["cfg", "cfgpp"])
def test_outside_of_the_interval_one_evaluation_takes_the_place_of_two(
    parts: tuple[LatentModel, SharedAttention], rule: str
) -> None:
    model, session = parts
    weight = 4.0 if rule == "cfg" else 0.6
    spec = {"prompt": "ink", "guidance": weight, "rule": rule, "guidance_interval": [0.0, 0.6]}
    whole = prompted(spec, model, session)
    within = prompted_within(spec, whole, TIMESTEPS, model, session)
    told = prompted({"prompt": "ink"}, model, session)
    calls = [0]
    hook = model.unet.register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for i, t in enumerate(TIMESTEPS):
            calls[0] = 0
            found = within.predict(z, t)
            guided = i < 3
            assert calls[0] == (2 if guided else 1)
            wanted = (whole if guided else told).predict(z, t)
            assert torch.equal(found.z0, wanted.z0)
            assert torch.equal(found.eps, wanted.eps)
        # Solvers of second order ask between their steps.
        calls[0] = 0
        within.predict(z, TIMESTEPS[3] + 1)
        within.predict(z, TIMESTEPS[3] - 1)
    hook.remove()
    assert calls[0] == 3


def test_without_an_interval_the_prior_is_the_same(parts: tuple[LatentModel, SharedAttention]) -> None:
    model, session = parts
    spec = {"prompt": "ink", "guidance": 4.0}
    prior = prompted(spec, model, session)
    assert prompted_within(spec, prior, TIMESTEPS, model, session) is prior


@pytest.mark.parametrize(
    ("interval", "steps", "found"),
    [
        ((0.0, 1.0), 4, range(4)), ((0.0, 0.6), 5, range(3)), ((0.2, 0.6), 10, range(2, 6)),
        ((0.5, 1.0), 3, range(2, 3)), ((0.1, 0.2), 4, range(0)),
    ],
)  # fmt: skip
def test_the_guided_steps_are_those_whose_share_of_the_way_lies_inside(
    interval: tuple[float, float], steps: int, found: range
) -> None:
    assert guided_steps(interval, steps) == found


def test_stretches_that_are_none_are_refused() -> None:
    with pytest.raises(OperatorError, match="no stretch"):
        guided_steps((0.6, 0.6), 5)


def test_the_whole_network_runs_where_guidance_a_reading_or_features_end() -> None:
    asked = {"acceleration": {"deepcache": {"every": 4}}}
    timesteps = tuple(range(900, 0, -100))
    assert cache_schedule({}, timesteps) is None
    full = {
        "nothing else": {**asked},
        "guidance": {**asked, "guidance_interval": [0.2, 0.6]},
        "rival": {**asked, "method": {"name": "rival", "until": 0.6}},
        "pinned": {**asked, "content": {"name": "pinned", "structure": 0.5}},
    }
    found = {name: cache_schedule(item, timesteps) for name, item in full.items()}
    steps = {name: [i for i in range(9) if s.is_full(i)] for name, s in found.items() if s is not None}
    assert steps == {
        "nothing else": [0, 4, 8],
        # Shares 2/9 to 5/9 of the way.
        "guidance": [0, 2, 4, 6, 8],
        # Above 540: 900, 800, 700, 600.
        "rival": [0, 4, 8],
        # Attention until 0.5 x 9, the residual until 0.6 x 9.
        "pinned": [0, 4, 5, 6, 8],
    }
