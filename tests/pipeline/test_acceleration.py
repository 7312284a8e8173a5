"""Acceleration through the Enhancer: bits, chunks, keys, and what a job may ask for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.enhancer
from jobs.spec import parse_spec
from operators.errors import OperatorError
from pipeline.acceleration_fit import CACHED_SOLVERS
from pipeline.enhancer import Enhancer
from pipeline.errors import SpecError
from pipeline.job_keys import JobKeys
from pipeline.model_fit import require_model_fit
from pipeline.settings import ConsistencySettings, JobSettings
from tests.pipeline.test_enhancer import clip, config, task
from tests.pipeline.test_enhancer_policies import CUT, LENGTH, STYLIZE, run
from tests.support.tiny_models import save_tiny_few_step, save_tiny_sd, save_tiny_sd3

TWICE = {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02}
ALONE = ConsistencySettings(sharing="none")


def cached(item: dict[str, Any], every: int) -> dict[str, Any]:
    """A whole item as the pipeline gets it, with DeepCache."""
    made = copy.deepcopy(item)
    ((_, what),) = made.items()
    what["acceleration"] = {"deepcache": {"every": every}}
    return made


def longer(item: dict[str, Any]) -> dict[str, Any]:
    """A stylization of eight steps, of which `strength` leaves several."""
    made = copy.deepcopy(item)
    made["stylize"]["method"]["steps"] = 8
    return made


def job(model: str = "embedded", **what: Any) -> JobSettings:
    told = {"name": "a", "source": "a.mp4", "output": "o", "model": model, "enhance": [what]}
    return parse_spec({**told, "consistency": {"sharing": "none"}}).to_settings()


@pytest.fixture(scope="module")
def style() -> bytes:
    enhancer = Enhancer(config(longer(STYLIZE)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline.enhancer, "STYLE_CELLS", 16)
        reference = enhancer.style(0, clip(1, 64, 64)[0][::-1])
    enhancer.close()
    return reference


def test_cached_frames_do_not_depend_on_their_chunk_and_are_others_than_uncached_ones(
    style: bytes,
) -> None:
    item = longer(STYLIZE)
    whole = run(cached(item, 2), "knots", style, ())
    assert np.array_equal(whole, run(cached(item, 2), "knots", style, (CUT,)))
    plain = run(item, "knots", style, ())
    assert not np.array_equal(whole, plain)
    assert np.array_equal(run(cached(item, 1), "knots", style, ()), plain)
    assert len(whole) == LENGTH
    # Nearer to the plain pictures than to black ones by far.
    assert np.abs(whole.astype(float) - plain).mean() < 12.0


def test_cached_frames_do_not_depend_on_the_frames_of_their_batch(style: bytes) -> None:
    item = cached(longer(STYLIZE), 2)
    whole = run(item, "knots", style, (), batch=2)
    assert np.array_equal(whole, run(item, "knots", style, (CUT,), batch=2))


def restored(solver: dict[str, Any], every: int | None, model: str = "embedded") -> np.ndarray:
    """Two frames twice as large; ``every`` None is without DeepCache."""
    item = job(model, restore={"degradation": TWICE, "solver": solver}).enhance[0]
    facts = config(item if every is None else cached(item, every), model=model, consistency=ALONE)
    enhancer = Enhancer(facts)
    try:
        return enhancer.chunk(task(0, 1), clip(2, 16, 16), (0, 1), None, {})
    finally:
        enhancer.close()


@pytest.mark.parametrize("name", CACHED_SOLVERS)
def test_solvers_that_may_be_cached_are_themselves_at_every_step_and_others_at_every_second(
    name: str, tmp_path: Path
) -> None:
    model = str(save_tiny_few_step(tmp_path)) if name == "latino" else "embedded"
    few = {} if name == "latino" else {"steps": 6, "strength": 0.5}
    plain, same, less = (restored({"name": name, **few}, every, model) for every in (None, 1, 2))
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, less)


@pytest.mark.parametrize("name", ["ldps", "psld", "resample", "stsl", "dreamsampler"])
def test_solvers_that_differentiate_are_refused_and_would_fail(name: str) -> None:
    item = {"degradation": TWICE, "solver": {"name": name}}
    asked = {**item, "acceleration": {"deepcache": {"every": 2}}}
    with pytest.raises(SpecError, match=r"enhance\.0\.restore\.acceleration\.deepcache: .*differentiates"):
        job(restore=asked)
    with pytest.raises(OperatorError, match="no gradient"):
        restored({"name": name, "steps": 4, "strength": 1.0}, 2)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"restore": {"degradation": TWICE}}, "mirror"),
        ({"stylize": {"method": {"name": "styleid"}}}, "in its own way"),
        ({"stylize": {"method": {"name": "soc", "form": "full"}}}, "proximal"),
        ({"stylize": {"content": {"name": "edict"}}}, "several times a step"),
    ],
)
def test_what_does_not_go_with_a_cache_is_refused_with_what_does(what: dict[str, Any], words: str) -> None:
    ((action, item),) = what.items()
    item = {**item, "acceleration": {"deepcache": {}}}
    if action == "stylize":
        item["reference"] = "a.png"
    with pytest.raises(SpecError, match=words) as refused:
        job(**{action: item})
    assert refused.value.field == f"enhance.0.{action}.acceleration.deepcache"


def test_a_transformer_has_nothing_to_cache(tmp_path: Path) -> None:
    restore = {"degradation": TWICE, "solver": {"name": "dps_nojac"}, "acceleration": {"deepcache": {}}}
    save_tiny_sd3(tmp_path / "sd3", t5=False)
    with pytest.raises(SpecError, match="model with a UNet"):
        require_model_fit(job(str(tmp_path / "sd3"), restore=restore))


PROMPTED = {"reference": "a.png", "prompt": "ink", "guidance": 3.0}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({**PROMPTED, "guidance_interval": [0.6, 0.6]}, "no stretch"),
        ({**PROMPTED, "guidance": 1.0, "guidance_interval": [0.0, 0.6]}, "nothing to confine"),
        ({**PROMPTED, "guidance_interval": [0.0, 1.5]}, "at most 1.0"),
    ],
)
def test_intervals_that_say_nothing_are_refused(what: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        job("x/y", stylize=what)


def test_what_is_left_out_is_part_of_the_keys() -> None:
    plain = {"degradation": TWICE, "solver": {"name": "diffpir"}}
    found = {
        JobKeys(job("x/y", restore={**plain, **more}), "m", "cpu").video("source", "mp4")
        for more in (
            {},
            {"acceleration": {"deepcache": {"every": 2}}},
            {"acceleration": {"deepcache": {"every": 3}}},
            {"prompt": "ink", "guidance": 3.0},
            {"prompt": "ink", "guidance": 3.0, "guidance_interval": [0.0, 0.6]},
        )
    }
    assert len(found) == 5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_sd(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize(("interval", "calls"), [(None, 8), ([0.0, 0.5], 6), ([0.9, 1.0], 4)])
def test_a_guided_restoration_asks_the_network_twice_inside_its_interval_alone(
    interval: list[float] | None, calls: int, tiny: str
) -> None:
    solver = {"name": "diffpir", "steps": 8, "strength": 0.5}
    within = {} if interval is None else {"guidance_interval": interval}
    item = {"degradation": TWICE, "solver": solver, "prompt": "ink", "guidance": 3.0, **within}
    enhancer = Enhancer(config(job(tiny, restore=item).enhance[0], model=tiny, consistency=ALONE))
    made = [0]
    enhancer.model.unet.register_forward_pre_hook(lambda *_: made.__setitem__(0, made[0] + 1))
    enhancer.chunk(task(0), clip(1, 32, 32), (0,), None, {})
    enhancer.close()
    assert made[0] == calls


def test_an_edit_beside_its_source_is_cached_with_guidance_that_ends(tiny: str) -> None:
    what = {**PROMPTED, "guidance_interval": [0.0, 0.5], "content": {"name": "pinned"}, "depth": 1.0}
    what |= {"method": {"name": "prompt", "steps": 6}, "strength": 1.0}
    del what["reference"]
    item = job(tiny, stylize=what).enhance[0]
    found = []
    for facts in (item, cached(item, 1), cached(item, 3)):
        enhancer = Enhancer(config(facts, model=tiny, consistency=ALONE))
        found.append(enhancer.chunk(task(0), clip(1, 32, 32), (0,), None, {}))
        enhancer.close()
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
