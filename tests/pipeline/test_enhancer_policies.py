"""Every sharing policy through the Enhancer: it does something, and depends on the cut only if it says so."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings
from pipeline.sharing_policies import POLICIES
from tests.pipeline.test_enhancer import STYLIZE, clip, config, task
from tests.support.tiny_models import save_tiny_sd

GRID, ANCHORS, LENGTH = (0, 3, 4), (0, 4), 5
CUT = 3
#: Options that go with knots, as policies of their own.
WAYS: dict[str, dict[str, Any]] = {
    **{name: {"sharing": name} for name in POLICIES},
    "merged": {"sharing": "knots", "merge": 0.5},
    "fused": {"sharing": "knots", "fusion": 0.5},
    "fused_propagate": {"sharing": "propagate", "fusion": 1.0},
    "merged_hard": {"sharing": "knots_hard", "merge": 0.5},
}
PSLD = {
    "restore": {
        "degradation": {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02},
        "solver": {"name": "psld", "steps": 2},
    }
}
DPIR = {
    "restore": {
        "degradation": {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.05},
        "solver": {"name": "dpir", "steps": 3},
    }
}


@pytest.fixture(scope="module")
def style() -> bytes:
    enhancer = Enhancer(config(STYLIZE))
    reference = enhancer.style(0, clip(1, 64, 64)[0][::-1])
    enhancer.close()
    return reference


class Scene:
    """One scene of five frames under one policy, in chunks of one's choosing."""

    def __init__(self, enhancer: Enhancer, frames: np.ndarray) -> None:
        self.enhancer, self.frames = enhancer, frames
        self.facts = POLICIES[enhancer.config.consistency.sharing]
        self.anchors = None if self.facts.anchors == "none" else self._anchors()
        self.knots = self._knots() if self.facts.knots and self.anchors else {}

    def _anchors(self) -> bytes:
        at = (0,) if self.facts.anchors == "first" else ANCHORS
        return self.enhancer.anchors(task(*at), self.frames[list(at)])

    def _knots(self) -> dict[int, bytes]:
        assert self.anchors is not None
        return self.enhancer.knots(task(CUT), self.frames[[CUT]], self.anchors)

    def chunk(self, first: int, last: int) -> np.ndarray:
        grid = tuple(knot for knot in GRID if first <= knot <= last)
        knots = {ordinal: blob for ordinal, blob in self.knots.items() if ordinal in grid}
        ordinals = range(first, last)
        return self.enhancer.chunk(task(*ordinals), self.frames[first:last], grid, self.anchors, knots)


def consistency(way: str, **changes: Any) -> ConsistencySettings:
    return ConsistencySettings(knot_every=3, anchors=2, **WAYS[way], **changes)


def scene_of(item: dict[str, Any], way: str, style: bytes, batch: int = 1) -> Scene:
    facts = config(item, consistency=consistency(way, frames_per_batch=batch))
    if "stylize" in item:
        return Scene(Enhancer(facts, {0: style}), clip(LENGTH, 32, 48))
    return Scene(Enhancer(facts), clip(LENGTH, 16, 24))


_DONE: dict[Any, np.ndarray] = {}


def run(item: dict[str, Any], way: str, style: bytes, cuts: tuple[int, ...], batch: int = 1) -> np.ndarray:
    """The scene under one policy, cut before ``cuts``; equal calls are made once."""
    key = (str(item), way, cuts, batch)
    if key not in _DONE:
        _DONE[key] = _run(item, way, style, cuts, batch)
    return _DONE[key]


def _run(item: dict[str, Any], way: str, style: bytes, cuts: tuple[int, ...], batch: int) -> np.ndarray:
    scene = scene_of(item, way, style, batch)
    bounds = (0, *cuts, LENGTH)
    pictures = [scene.chunk(a, b) for a, b in itertools.pairwise(bounds)]
    scene.enhancer.close()
    return np.concatenate(pictures)


@pytest.fixture(scope="module")
def alone(style: bytes) -> np.ndarray:
    return run(STYLIZE, "none", style, ())


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_depends_on_the_cut_exactly_when_it_says_so(
    way: str, style: bytes, alone: np.ndarray
) -> None:
    whole = run(STYLIZE, way, style, ())
    halves = run(STYLIZE, way, style, (CUT,))
    assert whole.shape == (LENGTH, 32, 48, 3)
    dependent = bool(POLICIES[WAYS[way]["sharing"]].depends_on_chunking)
    assert np.array_equal(whole, halves) != dependent
    assert np.array_equal(whole, alone) == (way == "none")


def test_policies_differ_from_each_other(style: bytes) -> None:
    found = {way: run(STYLIZE, way, style, ())[1:3] for way in WAYS}
    names = sorted(found)
    same = [(a, b) for a in names for b in names if a < b and np.array_equal(found[a], found[b])]
    assert same == []


@pytest.mark.parametrize("way", ["propagate", "correspondence", "merged", "fused"])
def test_rows_of_a_batch_have_references_and_matches_of_their_own(way: str, style: bytes) -> None:
    """Batches of two differ from single frames by the rounding of another batch shape only."""
    single = run(STYLIZE, way, style, ()).astype(int)
    double = run(STYLIZE, way, style, (), batch=2).astype(int)
    assert abs(single - double).max() <= 2


@pytest.mark.parametrize(
    ("item", "way"),
    [
        *((PSLD, way) for way in ("sparse_causal", "correspondence", "merged", "fused")),
        *((DPIR, way) for way in ("first_frame", "propagate", "correspondence", "fused")),
    ],
)
def test_policies_restore_as_well_with_gradients_and_with_mirror_images(
    item: dict[str, Any], way: str, style: bytes
) -> None:
    whole = run(item, way, style, ())
    assert whole.shape == (LENGTH, 32, 48, 3)
    alone = run(item, "none", style, ())
    apart = abs(whole.astype(int) - alone)
    assert 0 < apart.mean() < 40


@pytest.mark.parametrize("item", [PSLD, DPIR], ids=["psld", "dpir"])
def test_restored_pictures_do_not_depend_on_the_cut_either(item: dict[str, Any], style: bytes) -> None:
    way = "correspondence"
    assert np.array_equal(run(item, way, style, ()), run(item, way, style, (CUT,)))


def test_references_carry_their_sources_only_where_tokens_are_matched(style: bytes) -> None:
    matched, plain = (scene_of(STYLIZE, way, style) for way in ("propagate", "knots"))
    assert matched.anchors is not None
    assert plain.anchors is not None
    assert load(matched.anchors)["0/source"].shape == (2, 12, 8, 12)
    assert "0/source" not in load(plain.anchors)
    for scene in (matched, plain):
        scene.enhancer.close()


@pytest.mark.parametrize(("way", "precision"), [("correspondence", "fp32"), ("merged", "bf16")])
def test_matched_policies_work_under_guidance_and_in_half_precision(
    way: str, precision: str, tmp_path: Path
) -> None:
    """SD's layout with a prompt: both branches of guidance read banks of their own, by the same matches."""
    item = copy.deepcopy(STYLIZE)
    item["stylize"] |= {"prompt": "ink", "guidance": 3.0}
    item["stylize"]["method"] |= {"steps": 1, "strength": 1.0}
    facts = config(item, model=str(save_tiny_sd(tmp_path)), precision=precision)
    first = Enhancer(facts)
    style = first.style(0, clip(1, 64, 64)[0][::-1])
    first.close()
    enhancer = Enhancer(dataclasses.replace(facts, consistency=consistency(way)), {0: style})
    scene = Scene(enhancer, clip(LENGTH, 40, 56))
    whole = scene.chunk(0, LENGTH)
    assert np.array_equal(whole[:CUT], scene.chunk(0, CUT))
    enhancer.config = dataclasses.replace(facts, consistency=consistency("knots"))
    assert not np.array_equal(whole[1:CUT], Scene(enhancer, scene.frames).chunk(0, CUT)[1:])
    enhancer.close()
