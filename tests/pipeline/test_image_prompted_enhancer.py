"""IP-Adapter inside the Enhancer: one bank holds the tokens, and every frame is told them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from operators.models import LatentModel
from pipeline import enhancer
from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings
from tests.pipeline.graph.jobs import stylize_item
from tests.pipeline.test_enhancer import clip, config, task
from tests.support.tiny_models import save_tiny_controlnet, save_tiny_image_prompt, save_tiny_sd

ALIGNED = stylize_item("style.png")
SOC = {
    "name": "soc",
    "steps": 2,
    "form": "proximal",
    "iterations": 1,
    "rate": 0.1,
    "anchor": 1.0,
    "optimiser": "adam",
    "descriptor": None,
    "shared": True,
    "aggregation": False,
    "statistics": 1.0,
}
STYLE_ALIGNED = {**ALIGNED["stylize"]["method"], "steps": 2}
GRID = (0, 2, 4)


@pytest.fixture(scope="module", autouse=True)
def small_references() -> Iterator[None]:
    """Style pictures of 64 px, since every step replays them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enhancer, "STYLE_CELLS", 8)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("image_prompted")
    save_tiny_sd(root / "sd")
    unet = LatentModel.from_pretrained(str(root / "sd"), precision="fp32").unet
    save_tiny_image_prompt(root / "ip", unet)
    save_tiny_controlnet(root / "tile", unet)
    return root


def stylized(root: Path, method: dict[str, Any], *adapters: dict[str, Any], **told: Any) -> np.ndarray:
    """An anchor and the frame after it."""
    with_bank = banked(root, method, *adapters, **told)
    frames = clip(3)
    anchors = with_bank.anchors(task(0, 2), frames[[0, 2]])
    made = with_bank.chunk(task(0, 1), frames[:2], (0, 2), anchors, {})
    with_bank.close()
    return made


def banked(root: Path, method: dict[str, Any], *adapters: dict[str, Any], **told: Any) -> Enhancer:
    item = {"stylize": {**ALIGNED["stylize"], "method": method, **told}}
    how = ConsistencySettings(knot_every=2, anchors=2)
    found = Enhancer(config(item, model=str(root / "sd"), adapters=adapters, consistency=how))
    found.adopt({0: found.style(0, clip(1, 64, 64)[0][::-1], clip(2, 64, 64)[1], weights=(0.5, 0.5))})
    return found


def chunk_of(enhancer: Enhancer, ordinals: Any, grid: tuple[int, ...]) -> np.ndarray:
    frames = clip(5)
    anchors = enhancer.anchors(task(0, 4), frames[[0, 4]])
    knots = enhancer.knots(task(2), frames[[2]], anchors)
    mine = {ordinal: blob for ordinal, blob in knots.items() if ordinal in grid}
    return enhancer.chunk(task(*ordinals), frames[list(ordinals)], grid, anchors, mine)


def image_prompt(root: Path, **changes: Any) -> dict[str, Any]:
    return {"ip_adapter": str(root / "ip"), "scale": 1.0, "layers": "all", **changes}


@pytest.fixture(scope="module")
def plain(root: Path) -> np.ndarray:
    return stylized(root, STYLE_ALIGNED)


def test_a_scene_cut_in_two_is_told_to_the_same_bits_and_every_frame_is(root: Path) -> None:
    told = banked(root, STYLE_ALIGNED, image_prompt(root))
    whole = chunk_of(told, range(5), GRID)
    left, right = chunk_of(told, range(2), (0, 2)), chunk_of(told, range(2, 5), (2, 4))
    told.close()
    plain = banked(root, STYLE_ALIGNED)
    untold = chunk_of(plain, range(5), GRID)
    plain.close()
    assert np.array_equal(whole, np.concatenate([left, right]))
    assert all(not np.array_equal(a, b) for a, b in zip(whole, untold, strict=True))


def test_the_bank_holds_the_tokens_and_what_is_inverted_knows_nothing_of_them(root: Path) -> None:
    method, picture = STYLE_ALIGNED, clip(1, 64, 64)[0]
    told, untold = banked(root, method, image_prompt(root)), banked(root, method)
    with_tokens, without = load(told.style(0, picture)), load(untold.style(0, picture))
    assert with_tokens.pop("image_tokens").shape == (2, 4, 32)
    assert with_tokens.keys() == without.keys()
    assert all(np.array_equal(with_tokens[name], without[name]) for name in without)
    told.close()
    untold.close()


def test_a_scale_of_zero_is_no_adapter_and_style_layers_are_fewer(root: Path, plain: np.ndarray) -> None:
    method = STYLE_ALIGNED
    assert np.array_equal(stylized(root, method, image_prompt(root, scale=0.0)), plain)
    whole = stylized(root, method, image_prompt(root))
    part = stylized(root, method, image_prompt(root, layers="style"))
    assert not np.array_equal(part, whole)
    assert not np.array_equal(part, plain)


def test_soc_aggregates_where_it_is_asked_to_in_both_forms(root: Path) -> None:
    for form in ("proximal", "full"):
        added = stylized(root, {**SOC, "form": form}, image_prompt(root))
        mean = stylized(root, {**SOC, "form": form, "aggregation": True}, image_prompt(root))
        assert all(not np.array_equal(a, b) for a, b in zip(added, mean, strict=True)), form


def test_guidance_a_controlnet_and_pinned_features_go_together_with_it(root: Path) -> None:
    method = STYLE_ALIGNED
    content = {"name": "pinned", "structure": 0.5, "iterations": 1, "noise_share": 0.0}
    rest = {"prompt": "ink", "guidance": 2.0, "content": content}
    tile = {"controlnet": str(root / "tile"), "condition": "tile", "weight": 0.7}
    made = [stylized(root, method, *adapters, **rest) for adapters in _some(image_prompt(root), tile)]
    assert all(not np.array_equal(a, b) for n, a in enumerate(made) for b in made[:n])


def _some(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[dict[str, Any], ...]]:
    return [(first,), (second,), (first, second)]
