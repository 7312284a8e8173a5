"""ControlNet inside the Enhancer: every call about a frame is steered by that frame, whoever makes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from operators.adapters.conditions import softedge
from operators.models import LatentModel
from operators.pictures import pad_edges, to_pictures, to_tensor
from pipeline import enhancer
from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings
from tests.pipeline.graph.jobs import stylize_item
from tests.pipeline.test_enhancer import chunk, clip, config, references, task
from tests.support.tiny_models import save_tiny_controlnet, save_tiny_sd

STYLIZE = stylize_item("style.png")


@pytest.fixture(scope="module", autouse=True)
def small_references() -> Iterator[None]:
    """Style pictures of 64 px, since every step replays them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enhancer, "STYLE_CELLS", 8)
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("steered")
    save_tiny_sd(root / "sd")
    unet = LatentModel.from_pretrained(str(root / "sd"), precision="fp32").unet
    return root / "sd", save_tiny_controlnet(root / "soft", unet)


def enhancer_of(places: tuple[Path, Path], weight: float | None, **how: Any) -> Enhancer:
    model, controlnet = places
    control = {"controlnet": str(controlnet), "condition": "softedge", "weight": weight}
    given = ConsistencySettings(**{"knot_every": 4, "anchors": 2, **how})
    return Enhancer(
        config(
            STYLIZE, model=str(model), adapters=(control,) if weight is not None else (), consistency=given
        )
    )


@pytest.fixture(scope="module")
def steered(places: tuple[Path, Path]) -> Iterator[Enhancer]:
    found = enhancer_of(places, 1.0)
    found.adopt({0: found.style(0, clip(1, 64, 64)[0][::-1])})
    yield found
    found.close()


@pytest.fixture(scope="module")
def whole(steered: Enhancer) -> np.ndarray:
    return chunk(steered, clip(9), range(9), (0, 4, 8))


def test_a_scene_cut_in_two_is_steered_to_the_same_bits(steered: Enhancer, whole: np.ndarray) -> None:
    frames = clip(9)
    left = chunk(steered, frames, range(4), (0, 4))
    right = chunk(steered, frames, range(4, 9), (4, 8))
    assert np.array_equal(whole, np.concatenate([left, right]))


def test_every_frame_is_steered_anchors_and_knots_too_and_style_references_are_not(
    steered: Enhancer, places: tuple[Path, Path], whole: np.ndarray
) -> None:
    plain = enhancer_of(places, None)
    bank = plain.style(0, clip(1, 64, 64)[0][::-1])
    assert steered.style(0, clip(1, 64, 64)[0][::-1]) == bank
    plain.adopt({0: bank})
    without = chunk(plain, clip(9), range(9), (0, 4, 8))
    plain.close()
    assert all(not np.array_equal(a, b) for a, b in zip(whole, without, strict=True))


def test_what_a_call_is_shown_belongs_to_its_rows_in_batches_inversions_and_replays(
    steered: Enhancer, places: tuple[Path, Path]
) -> None:
    frames, batched = clip(9), enhancer_of(places, 1.0, frames_per_batch=2)
    batched.styles = steered.styles
    padded = to_pictures(pad_edges(to_tensor(frames), 64, 64), np.dtype(np.uint8))
    expected = torch.from_numpy(softedge(padded)).permute(0, 3, 1, 2) / 255
    anchors, knots = references(batched, frames)
    seen = {0: load(anchors)["0/z"][0], 8: load(anchors)["0/z"][1], 4: load(knots[4])["0/z"][0]}
    assert np.array_equal(load(anchors)["0/shown"], padded[[0, 8]])
    assert np.array_equal(load(knots[4])["0/shown"], padded[[4]])
    calls: list[tuple[torch.Tensor, list[int]]] = []

    def note(_network: Any, args: Any, kwargs: Any) -> None:
        shown = kwargs["controlnet_cond"]
        named = [
            int(n) for row in shown for n in np.flatnonzero([(row - e).abs().max() < 1e-6 for e in expected])
        ]
        assert len(named) == len(args[0]) == len(shown)
        calls.append((args[0].clone(), named))

    (control,) = batched.control.controls
    hook = control.network.register_forward_pre_hook(note, with_kwargs=True)
    batched.chunk(task(*range(9)), frames, (0, 4, 8), anchors, knots)
    hook.remove()
    batched.close()
    told = {tuple(named) for _, named in calls}
    assert told == {(1, 2), (3, 3), (5, 6), (7, 7), (0, 8), (0,), (4,), (8,)}
    # Replays: what the network sees is what these references left, under their own pictures.
    for z, named in calls:
        if set(named) <= {0, 4, 8}:
            for row, frame in zip(z, named, strict=True):
                assert any(np.array_equal(row.numpy(), step) for step in seen[frame]), frame
