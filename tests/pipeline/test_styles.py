"""Every way of stylizing, by the Enhancer directly: what the references do, and that chunks do not matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load

import pipeline.enhancer
from jobs.spec import parse_spec
from operators.errors import OperatorError
from operators.inversion.content import CONTENTS as BUILT
from operators.pictures import to_tensor
from operators.style.descriptor import EncoderDescriptor
from pipeline.enhancement.references import style_from_bytes
from pipeline.enhancer import Enhancer
from pipeline.errors import SpecError
from pipeline.settings import ConsistencySettings
from pipeline.style_fit import CONTENTS, GOES_WITH, OF_PICTURES, OF_PROMPTS, sharing_misfit
from tests.pipeline.test_enhancer import clip, config, task
from tests.support.tiny_models import save_tiny_few_step, save_tiny_flow, save_tiny_sd

HOW = ConsistencySettings(knot_every=2, anchors=2)
#: Anchors are knots; frame 1 alone is none.
FRAMES, GRID, ANCHORS, KNOT = 4, (0, 2, 3), (0, 3), 2
#: Two steps of the network.
FEW = {"steps": 2}


@pytest.fixture(scope="module", autouse=True)
def _small_references() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline.enhancer, "STYLE_CELLS", 16)
        yield


def item(method: dict[str, Any], model: str = "embedded", **members: Any) -> dict[str, Any]:
    """A stylization as the pipeline sees it, from what a job file says."""
    told = {"method": {**FEW, **method}, "strength": 1.0, "depth": 1.0, **members}
    if method["name"] in OF_PICTURES:
        told["reference"] = "style.png"
    job = {"name": "a", "source": "a.mp4", "output": "o", "model": model, "enhance": [{"stylize": told}]}
    return parse_spec(job).to_settings().enhance[0]


def picture(seed: int) -> np.ndarray:
    """Broad colours."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, 64, mode="bicubic").clamp(0, 1)
    return (smooth[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Enhancer]:
    yield from _open("embedded", item({"name": "style_aligned"}))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enhancer]:
    yield from _tiny(save_tiny_sd, tmp_path_factory)


@pytest.fixture(scope="module")
def consistency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enhancer]:
    yield from _tiny(save_tiny_few_step, tmp_path_factory)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enhancer]:
    yield from _tiny(save_tiny_flow, tmp_path_factory)


def _tiny(save: Any, folders: pytest.TempPathFactory) -> Iterator[Enhancer]:
    yield from _open(str(save(folders.mktemp("model"))), item({"name": "style_aligned"}))


def _open(model: str, first: dict[str, Any]) -> Iterator[Enhancer]:
    enhancer = Enhancer(config(first, model=model, consistency=HOW))
    yield enhancer
    enhancer.close()


def doing(base: Enhancer, what: dict[str, Any], *references: np.ndarray, weights: Any = ()) -> Enhancer:
    """``base`` with one stylization; its bank is made of ``references``."""
    other = base.applying([what], [0])
    other.styles = {}
    if what["stylize"].get("reference"):
        blob = other.style(0, *(references or (picture(1),)), weights=weights)
        other.styles = {0: style_from_bytes(blob, "cpu")}
    return other


@dataclass(frozen=True)
class Scene:
    """Four frames, their references made by ``enhancer``."""

    enhancer: Enhancer
    anchors: bytes
    knots: dict[int, bytes]

    @classmethod
    def seen_by(cls, enhancer: Enhancer) -> Scene:
        frames = shown(enhancer)
        anchors = enhancer.anchors(task(*ANCHORS), frames[list(ANCHORS)])
        return cls(enhancer, anchors, enhancer.knots(task(KNOT), frames[[KNOT]], anchors))

    def chunk(self, *ordinals: int, grid: tuple[int, ...] = GRID) -> np.ndarray:
        mine = {ordinal: blob for ordinal, blob in self.knots.items() if ordinal in grid}
        frames = shown(self.enhancer)[list(ordinals)]
        return self.enhancer.chunk(task(*ordinals), frames, grid, self.anchors, mine).astype(float)


def shown(enhancer: Enhancer) -> np.ndarray:
    """The source, small, with more than one token in every layer."""
    side = max(32, enhancer.model.pixel_multiple)
    return clip(FRAMES, side, side)


def first_anchor(enhancer: Enhancer) -> np.ndarray:
    """What becomes of the first frame."""
    return load(enhancer.anchors(task(0), shown(enhancer)[[0]]))["pictures"].astype(float)


def require_independence_of_chunks(enhancer: Enhancer) -> None:
    scene = Scene.seen_by(enhancer)
    whole = scene.chunk(*range(FRAMES))
    assert np.array_equal(whole[:2], scene.chunk(0, 1, grid=(0, 2)))
    assert (abs(whole - shown(enhancer)).mean((1, 2, 3)) > 0.5).all()


@pytest.mark.parametrize("name", OF_PICTURES)
def test_a_method_shows_its_reference_and_does_not_depend_on_the_chunk(name: str, embedded: Enhancer) -> None:
    what = item({"name": name})
    styled = doing(embedded, what)
    require_independence_of_chunks(styled)
    foreign = doing(embedded, what, picture(9))
    assert abs(first_anchor(styled) - first_anchor(foreign)).mean() > 0.5


def fields_of(content: str) -> dict[str, Any]:
    """Nothing but its name, and what makes the edit differ from the source."""
    return {"name": content, **({"structure": 0.5} if content in ("pinned", "rf_edit") else {})}


@pytest.mark.parametrize("content", CONTENTS)
def test_every_way_to_keep_content_goes_with_its_kind_of_model(
    content: str, request: pytest.FixtureRequest
) -> None:
    kind = CONTENTS[content][0]
    enhancer = request.getfixturevalue(kind)
    what = item({"name": "style_aligned", "statistics": 0.5}, content=fields_of(content))
    require_independence_of_chunks(doing(enhancer, what))


@pytest.mark.parametrize("name", OF_PROMPTS)
def test_a_prompt_alone_restyles(name: str, diffusion: Enhancer) -> None:
    told = item({"name": name}, diffusion.config.model, prompt="ink", guidance=3.0)
    other = item({"name": name}, diffusion.config.model, prompt="a", guidance=3.0)
    styled = doing(diffusion, told)
    require_independence_of_chunks(styled)
    assert not np.array_equal(first_anchor(styled), first_anchor(doing(diffusion, other)))


def test_cfgpp_and_blended_prompts_count(diffusion: Enhancer) -> None:
    model = diffusion.config.model

    def becomes(**members: Any) -> np.ndarray:
        return first_anchor(doing(diffusion, item({"name": "prompt"}, model, prompt="ink", **members)))

    plain = becomes(guidance=3.0)
    assert not np.array_equal(plain, becomes(guidance=0.6, rule="cfgpp"))
    assert not np.array_equal(plain, becomes(guidance=3.0, blend=[{"prompt": "in a", "weight": 2.0}]))
    unblended = becomes(guidance=3.0, blend=[{"prompt": "in a", "weight": 0.0}])
    assert abs(plain - unblended).max() <= 1


def test_control_brings_anchors_nearer_to_the_style_than_attention_alone(embedded: Enhancer) -> None:
    describe = EncoderDescriptor(embedded.model)
    wanted = describe(to_tensor(picture(1)[None], "cpu"))

    def likeness(method: dict[str, Any]) -> float:
        found = first_anchor(doing(embedded, item(method))).astype(np.uint8)
        return float(describe(to_tensor(found, "cpu")) @ wanted.T)

    plain = likeness({"name": "style_aligned", "statistics": 0.0})
    for form, rate in (("proximal", 0.1), ("full", 30.0)):
        assert likeness({"name": "soc", "statistics": 0.0, "form": form, "rate": rate}) > plain, form


def test_frames_between_knots_are_not_controlled(embedded: Enhancer) -> None:
    """Nothing else being shared, they change by what they read of knots alone."""

    def becomes(iterations: int) -> np.ndarray:
        told = {"name": "soc", "shared": False, "statistics": 0.0, "iterations": iterations}
        return Scene.seen_by(doing(embedded, item(told))).chunk(0, 1)

    moved = abs(becomes(1) - becomes(6)).mean((1, 2, 3))
    assert moved[0] > 5 * moved[1]


def test_equal_references_with_weights_are_one(embedded: Enhancer) -> None:
    what = item({"name": "style_aligned"})
    one = first_anchor(doing(embedded, what))
    both = first_anchor(doing(embedded, what, picture(1), picture(1), weights=(3.0, 1.0)))
    mixed = first_anchor(doing(embedded, what, picture(1), picture(9), weights=(3.0, 1.0)))
    assert abs(one - both).max() <= 2
    assert abs(one - mixed).max() > 2


def test_a_descriptor_that_is_no_clip_tower_is_named(embedded: Enhancer, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SpecError, match=r"method\.descriptor: .*no CLIP vision tower"):
        doing(embedded, item({"name": "soc", "descriptor": str(tmp_path)}))


def test_the_table_names_what_the_operators_build() -> None:
    assert set(CONTENTS) == set(BUILT)
    assert set(GOES_WITH) == {*OF_PICTURES, *OF_PROMPTS}
    assert {content for works in GOES_WITH.values() for content in works} == set(CONTENTS)


@pytest.mark.parametrize("changes", [{"sharing": "propagate"}, {"sharing": "correspondence"}, {"merge": 0.5}])
def test_injection_is_refused_where_it_would_fail(changes: dict[str, Any], embedded: Enhancer) -> None:
    what = item({"name": "adain"}, content={"name": "pinned"})
    how = ConsistencySettings(knot_every=2, anchors=2, **changes)
    assert (
        "set merge: 0" in sharing_misfit(what["stylize"], how)[1]
        or "use sharing" in (sharing_misfit(what["stylize"], how)[1])
    )
    bare = {**what["stylize"], "content": {**what["stylize"]["content"], "structure": 0.0}}
    assert sharing_misfit(bare, how) == ("", "")
    enhancer = Enhancer(config(what, consistency=how))
    styled = doing(enhancer, what)
    with pytest.raises(OperatorError, match="cannot be injected"):
        Scene.seen_by(styled).chunk(*range(FRAMES))
    enhancer.close()
