"""DeepCache: which steps run what, and that nothing but the schedule decides."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from operators.acceleration.deepcache import CacheSchedule, DeepCache
from operators.attention.install import install
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.models import LatentModel
from tests.support.tiny_models import save_tiny_sd, save_tiny_sdxl

STEPS = (601, 501, 401, 301)


@pytest.fixture(scope="module", params=["embedded", "SD1.5", "SDXL"])
def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LatentModel, SharedAttention]]:
    torch.set_num_threads(1)
    source = "embedded"
    if request.param != "embedded":
        save = save_tiny_sd if request.param == "SD1.5" else save_tiny_sdxl
        source = str(save(tmp_path_factory.mktemp("model")))
    model = LatentModel.from_pretrained(source)
    with install(model.unet, decoder_only=True) as session:
        yield model, session


def latents(model: LatentModel, *rows: int) -> Tensor:
    drawn = [
        torch.randn(model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(r)) for r in rows
    ]
    return torch.stack(drawn)


def walked(parts: tuple[LatentModel, SharedAttention], every: int | None, *rows: int) -> list[Tensor]:
    """What the network says at each of `STEPS` of rows that move on by a tenth of it."""
    model, session = parts
    condition, z, said = model.condition(""), latents(model, *rows), []
    cache = DeepCache(model.unet, session, CacheSchedule(every or 1))
    with torch.no_grad(), cache.pass_over_steps() as calls:
        for i, t in enumerate(STEPS):
            if every is None:
                said.append(model.network(z, t, condition))
            else:
                with calls.at("rows", i):
                    said.append(model.network(z, t, condition))
            z = z - 0.1 * said[-1]
    return said


def test_every_step_full_is_the_network_itself_bit_for_bit(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    model, _ = parts
    z = latents(model, 1, 2)
    for t, cached in zip(STEPS, walked(parts, 1, 1, 2), strict=True):
        with torch.no_grad():
            plain = model.network(z, t, model.condition(""))
        assert torch.equal(plain, cached)
        z = z - 0.1 * plain


def test_cached_steps_are_near_the_network_and_not_it(parts: tuple[LatentModel, SharedAttention]) -> None:
    plain, cached = walked(parts, None, 1, 2), walked(parts, 2, 1, 2)
    assert torch.equal(plain[0], cached[0])
    error = (plain[1] - cached[1]).norm() / plain[1].norm()
    assert 0.0 < error < 0.35


def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_its_place(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    first, other, turned = (walked(parts, 3, *rows) for rows in ((1, 2), (1, 9), (2, 1)))
    for step, (a, b, c) in enumerate(zip(first, other, turned, strict=True)):
        assert torch.equal(a[0], b[0]), step
        assert torch.equal(a[0], c[1]), step


def test_cached_steps_call_the_last_unit_alone(parts: tuple[LatentModel, SharedAttention]) -> None:
    model, _ = parts
    counts: collections.Counter[str] = collections.Counter()

    def count(name: str, _module: nn.Module, _args: object) -> None:
        counts[name] += 1

    leaves = [(name, m) for name, m in model.unet.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [m.register_forward_pre_hook(functools.partial(count, name)) for name, m in leaves]
    walked(parts, 2, 1)
    for hook in hooks:
        hook.remove()
    up = f"up_blocks.{len(model.unet.up_blocks) - 1}"
    unit = len(model.unet.up_blocks[-1].resnets) - 1
    shallow = ("conv_in", "conv_out", "time_embedding", "add_embedding", f"{up}.resnets.{unit}",
               f"{up}.attentions.{unit}")  # fmt: skip
    for name, calls in counts.items():
        wanted = 4 if name.startswith(shallow) else 2
        assert calls == wanted, name
    assert set(counts.values()) == {2, 4}


def test_a_cached_step_does_not_depend_on_the_blocks_it_skips(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    model, session = parts
    condition, z = model.condition(""), latents(model, 1)
    cache = DeepCache(model.unet, session, CacheSchedule(2))
    said = []
    weight = model.unet.mid_block.resnets[0].conv1.weight
    for spoilt in (False, True):
        kept = weight.clone()
        with torch.no_grad(), cache.pass_over_steps() as calls:
            with calls.at("rows", 0):
                model.network(z, STEPS[0], condition)
            if spoilt:
                weight.mul_(3.0)
            with calls.at("rows", 1):
                said.append(model.network(z, STEPS[1], condition))
            weight.copy_(kept)
    assert torch.equal(*said)


def test_branches_sources_and_others_have_states_of_their_own(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    model, session = parts
    condition, cache = model.condition(""), DeepCache(model.unet, session, CacheSchedule(2))
    a, b = latents(model, 1), latents(model, 2)

    def say(z: Tensor, t: int) -> Tensor:
        return model.network(z, t, condition)

    with torch.no_grad():
        with cache.pass_over_steps() as calls, calls.at("rows", 0):
            say(a, STEPS[0])
            with calls.at("rows", 1):
                alone = say(a, STEPS[1])
        with cache.pass_over_steps() as calls, calls.at("rows", 0):
            say(a, STEPS[0])
            session.branch = "uncond"
            say(b, STEPS[0])
            session.branch = "cond"
            session.harvest(lambda: say(b, STEPS[0]))
            with calls.at("knot", 0):
                say(b, STEPS[0])
            with calls.at("rows", 1):
                assert torch.equal(alone, say(a, STEPS[1]))


def test_who_missed_the_last_full_step_gets_one(parts: tuple[LatentModel, SharedAttention]) -> None:
    model, session = parts
    condition, z = model.condition(""), latents(model, 1)
    with torch.no_grad():
        plain = model.network(z, STEPS[3], condition)
        with DeepCache(model.unet, session, CacheSchedule(2)).pass_over_steps() as calls:
            with calls.at("knot", 0):
                model.network(z, STEPS[0], condition)
            with calls.at("knot", 3):
                assert torch.equal(plain, model.network(z, STEPS[3], condition))


def test_gradients_are_refused_and_the_network_gets_its_own_forward_back(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    model, session = parts
    condition, z = model.condition(""), latents(model, 1)
    with DeepCache(model.unet, session, CacheSchedule(2)).pass_over_steps() as calls:
        with torch.no_grad(), calls.at("rows", 0):
            model.network(z, STEPS[0], condition)
        with calls.at("rows", 1), pytest.raises(OperatorError, match="no gradient"):
            model.network(z.requires_grad_(), STEPS[1], condition)
    assert "forward" not in vars(model.unet)


def test_steps_are_full_by_count_and_at_switches() -> None:
    schedule = CacheSchedule(3, frozenset({4}))
    assert [i for i in range(8) if schedule.is_full(i)] == [0, 3, 4, 6]
    assert [schedule.last_full(i) for i in range(8)] == [0, 0, 0, 3, 4, 4, 6, 6]
    with pytest.raises(OperatorError, match="below 1"):
        CacheSchedule(0)
