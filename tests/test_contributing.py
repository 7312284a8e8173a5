"""The guides of operators/README.md, followed: their code is run as it stands there."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from jobs import api
from jobs.schema import job_schema
from operators.attention.policies import registry as policy_registry
from operators.degradations import registry as operator_registry
from operators.noise import keyed_normal
from operators.solvers import registry as solver_registry
from operators.solvers.base import restore
from pipeline import sharing_policies
from tests.support.gaussian_prior import smooth_gaussian_prior

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "operators" / "README.md").read_text()
SIDE = 8


def module_of(heading: str) -> Any:
    """A temporary module with the code of one guide."""
    section = GUIDE.split(f"### {heading}\n")[1].split("\n### ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    module = types.ModuleType("followed_guide")
    exec(compile(code, f"operators/README.md: {heading}", "exec", dont_inherit=True), vars(module))
    return module


@pytest.fixture
def scanned_back(monkeypatch: pytest.MonkeyPatch) -> Any:
    builder = module_of("A degradation")._scanned_back
    monkeypatch.setitem(operator_registry._BUILDERS, "scanned_back", builder)
    return operator_registry.build_operator({"kind": "scanned_back", "noise": 0.05}, SIDE, SIDE, {})


def test_the_degradation_of_the_guide_is_built_by_name_and_has_an_exact_adjoint(scanned_back: Any) -> None:
    x, y = (
        torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(n)).double() for n in (1, 2)
    )
    left, right = (scanned_back.apply(x) * y).sum(), (x * scanned_back.adjoint(y)).sum()
    assert float((left - right).abs()) < 1e-12 * float(left.abs() + 1)
    assert torch.equal(scanned_back.pinv(scanned_back.apply(x)), x)
    assert scanned_back.noise_model.unit_sigma == pytest.approx(0.05)


def test_the_solver_of_the_guide_restores_what_was_scanned_from_its_back(
    scanned_back: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = solver_registry.Method(module_of("A solver").proximal_ddim, ("has_prox",))
    monkeypatch.setitem(solver_registry.METHODS, "proximal_ddim", method)
    generator = torch.Generator().manual_seed(3)
    prior = smooth_gaussian_prior(SIDE, SIDE, generator)
    truth = 0.3 * torch.randn(1, 3, SIDE, SIDE, generator=generator).double()
    spec = {"name": "proximal_ddim", "steps": 10, "gamma": 1e6}
    solver = solver_registry.build_solver(spec, scanned_back, 0.0, prior)
    noise = keyed_normal((3, SIDE, SIDE), "guide")[None].double()
    got = restore(solver, scanned_back.apply(truth), noise, prior)
    assert float((got - truth).abs().max()) < 1e-3


def test_the_sharing_policy_of_the_guide_runs_in_jobs_and_is_not_one_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = module_of("A way of sharing attention").AnchorsOnly
    monkeypatch.setitem(policy_registry._POLICIES, "anchors_only", lambda around: policy())  # type: ignore[arg-type]
    facts = sharing_policies.PolicyFacts("anchors_only", anchors="chosen")
    monkeypatch.setitem(sharing_policies.POLICIES, "anchors_only", facts)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "style.png"), picture)
    stylize = {
        "stylize": {"reference": str(tmp_path / "style.png"), "method": {"name": "style_aligned", "steps": 3}}
    }
    still = np.random.default_rng(1).integers(0, 200, (64, 64, 3))
    frames = np.stack([still + 5 * n for n in range(3)]).astype(np.uint8)
    made = {
        name: api.enhance(frames, [stylize], consistency={"sharing": name, "knot_every": 2, "anchors": 1})
        for name in ("anchors_only", "anchors", "none")
    }
    assert len({made_so.tobytes() for made_so in made.values()}) == 3


def test_the_files_and_tables_that_the_guides_name_exist() -> None:
    for path in re.findall(r"`((?:jobs|pipeline|tests)/[a-z_/]+\.py)`", GUIDE):
        assert (ROOT / path).exists(), path
    for path, name in re.findall(r"`([A-Z_]+)` of\s+`([a-z_/]+\.py)`", GUIDE):
        places = [ROOT / name, ROOT / "operators" / name]
        assert any(place.exists() and f"\n{path}" in place.read_text() for place in places), (path, name)
    for link in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (ROOT / "operators" / link).exists(), link


def test_names_that_job_files_accept_reach_the_schema() -> None:
    assert set(job_schema()["$defs"]["ConsistencySpec"]["properties"]["sharing"]["enum"]) == set(
        sharing_policies.POLICIES
    )


@pytest.mark.parametrize("room", ["operators", "pipeline"])
def test_every_file_and_folder_that_a_rooms_page_names_exists(room: str) -> None:
    page = (ROOT / room / "README.md").read_text()
    outside_guides = page.split("## Adding to it")[0]
    names = re.findall(r"`([a-z_/0-9]+(?:\.py|/))`", outside_guides)
    assert len(names) > 8
    for name in names:
        assert (ROOT / room / name).exists() or (ROOT / name).exists(), name
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (ROOT / room / link).exists(), link
