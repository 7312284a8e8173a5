"""`bench inversion`: every method runs, and the exact ones are exact, on latents of a few cells."""

from __future__ import annotations

import pytest
import torch

from jobs.bench.inversion_methods import LatentSpace, methods
from operators.attention.install import install
from operators.models import BoundPrior, LatentModel
from operators.solvers.ddim import leading_timesteps


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_methods_keep_the_digits_they_promise(precision: str) -> None:
    model = LatentModel.from_pretrained("embedded", precision=precision)
    z0 = torch.randn(1, 12, 8, 8, generator=torch.Generator().manual_seed(4))
    with install(model.unet) as session:
        prior = LatentSpace(BoundPrior(model, listener=session))
        known = methods(model, session, leading_timesteps(4), quick=True)
        for method in known:
            error = float((method.run(z0, prior) - z0).norm() / z0.norm())
            promised = method.digits if precision == "fp32" else method.half_digits
            assert error < 1.0 if promised is None else error <= 10.0**-promised, method.name
    assert len({method.name for method in known}) == len(known)
