"""Round trips that `bench inversion` measures: clean latents in, clean latents out, by way of the noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from operators.attention.session import SharedAttention
    from operators.models import LatentModel

#: Clean latents and a prior over latents to what the method makes of them.
RoundTrip = Callable[["Tensor", Any], "Tensor"]

SEED = 11


@dataclass(frozen=True)
class Method:
    """``digits``: decimal digits that the float32 round trip must keep, and that with a bf16 network; None
    where the method promises none."""

    name: str
    run: RoundTrip
    digits: float | None = None
    half_digits: float | None = None


def methods(
    model: LatentModel, session: SharedAttention, timesteps: tuple[int, ...], quick: bool
) -> list[Method]:
    """All of them, with the same prior both ways; ``quick`` leaves the one out that optimises."""
    from operators.inversion.as_flow import AsFlow
    from operators.inversion.bdia import Bdia
    from operators.inversion.ddcm import Ddcm
    from operators.inversion.edict import Edict
    from operators.inversion.edit_friendly import EditFriendly
    from operators.inversion.flow_edit import FlowEdit
    from operators.inversion.pinned import PinnedSource, SourceFeatures
    from operators.inversion.rf_edit import RfEdit
    from operators.inversion.uniform_attention import UniformMaps

    def ddim(iterations: int) -> RoundTrip:
        return lambda z0, prior: _restored(
            PinnedSource(timesteps, prior, session, SourceFeatures(), iterations), z0, prior
        )

    def bdia(gamma: float) -> RoundTrip:
        return lambda z0, prior: _restored(Bdia(timesteps, prior, gamma), z0, prior)

    found = [
        Method("DDIM", ddim(1)),
        *(Method(f"fixed point K={k}", ddim(k)) for k in (2, 3, 5)),
        Method("fixed point K=3, accelerated", lambda z0, prior: _accelerated(z0, timesteps, prior)),
        Method(
            "uniform attention maps",
            lambda z0, prior: ddim(1)(z0, UniformMaps(prior, model.unet)),
        ),
        Method(
            "pinned source, structure 0.5", lambda z0, prior: _pinned(model, session, timesteps, z0, prior)
        ),
        Method("Direct Inversion, source branch", lambda z0, prior: _offsets(z0, timesteps, prior), 6, 6),
        Method(
            "edit-friendly DDPM",
            lambda z0, prior: _restored(EditFriendly(timesteps, prior), z0, prior),
            6,
            6,
        ),
        Method(
            "CycleDiffusion, eta 0.1",
            lambda z0, prior: _restored(EditFriendly(timesteps, prior, 0.1, "posterior"), z0, prior),
            6,
            6,
        ),
        Method("EDICT p=0.93", lambda z0, prior: _restored(Edict(timesteps, prior), z0, prior), 4),
        *(Method(f"BDIA gamma={gamma}", bdia(gamma), 4) for gamma in (1.0, 0.96)),
        Method("DDCM, equal prompts", lambda z0, prior: _restored(Ddcm(timesteps, prior), z0, prior), 9, 9),
        Method(
            "FlowEdit, equal prompts",
            lambda z0, prior: _restored(FlowEdit(timesteps, AsFlow(prior)), z0, AsFlow(prior)),
            9,
            9,
        ),
        Method("Euler on the flow", lambda z0, prior: ddim(1)(z0, AsFlow(prior))),
        Method(
            "RF-Solver on the flow",
            lambda z0, prior: _restored(RfEdit(timesteps, AsFlow(prior)), z0, AsFlow(prior)),
        ),
    ]
    if not quick:
        found.insert(5, Method("SPDInv as published", lambda z0, prior: _spd(z0, timesteps, prior)))
    return found


class LatentSpace:
    """A prior whose pictures are latents, in the dtype of what it is given: rounded to that after each
    call."""

    def __init__(self, prior: Any) -> None:
        self._prior = prior

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def encode(self, x: Tensor) -> Tensor:
        """The latent itself."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """The latent itself."""
        return z

    def predict(self, z: Tensor, t: int) -> Any:
        """The prediction in the dtype of ``z``."""
        from operators.solvers.base import Prediction

        found = self._prior.predict(z, t)
        return Prediction(found.z0.to(z.dtype), found.eps.to(z.dtype))


def _restored(solver: Any, z0: Tensor, prior: Any) -> Tensor:
    from operators.noise import FrameDraws
    from operators.solvers.base import restore

    draws = FrameDraws(SEED, "bench inversion", 0, tuple(range(len(z0))), 1.0, "bench")
    return restore(solver, z0, draws.normal(z0, 0, "start"), prior, draws)


def _sampled(z: Tensor, timesteps: tuple[int, ...], prior: Any) -> Tensor:
    from operators.inversion.path import along, rungs

    for rung in rungs(prior, timesteps):
        z = along(z, prior.predict(z, rung.t).eps, rung.upper, rung.lower)
    return z


def _accelerated(z0: Tensor, timesteps: tuple[int, ...], prior: Any) -> Tensor:
    from operators.inversion.fixed_point import fixed_point_invert

    inverted = fixed_point_invert(z0, timesteps, prior, iterations=3, accelerated=True)
    return _sampled(inverted[0], timesteps, prior)


def _spd(z0: Tensor, timesteps: tuple[int, ...], prior: Any) -> Tensor:
    from operators.inversion.fixed_point import spd_invert

    return _sampled(spd_invert(z0, timesteps, prior)[0], timesteps, prior)


def _offsets(z0: Tensor, timesteps: tuple[int, ...], prior: Any) -> Tensor:
    """Direct Inversion as published: the source is integrated, and what it misses is added."""
    from operators.inversion.ddim import ddim_invert
    from operators.inversion.path import along, rungs
    from operators.inversion.pinned import direct_offsets

    trajectory = ddim_invert(z0, timesteps, prior)
    offsets = direct_offsets(z0, trajectory, timesteps, prior)
    z = trajectory[0]
    for rung, offset in zip(rungs(prior, timesteps), offsets, strict=True):
        z = along(z, prior.predict(z, rung.t).eps, rung.upper, rung.lower) + offset
    return z


def _pinned(
    model: LatentModel, session: SharedAttention, timesteps: tuple[int, ...], z0: Tensor, prior: Any
) -> Tensor:
    from operators.attention.depth import structure_layers, structure_residual
    from operators.inversion.pinned import PinnedSource, structure

    features = structure(structure_layers(model.unet), structure_residual(model.unet), 0.5)
    return _restored(PinnedSource(timesteps, prior, session, features), z0, prior)
