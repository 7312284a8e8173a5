"""Does a reference matter to a network? Loss of the one-step estimate with none, the own, a foreign one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.attention.reading import Reader
from operators.attention.session import SharedAttention
from operators.noise import keyed_normal

TIMESTEPS = (150, 400, 600)
#: References are almost clean: the timestep at which they are shown to the network.
REFERENCE_TIMESTEP = 5


@dataclass(frozen=True)
class ReferenceRow:
    """Mean squared error of the estimated clean latent at ``timestep`` per pair: ``none``, ``own`` and
    ``foreign`` float64 [N]."""

    timestep: int
    none: Tensor
    own: Tensor
    foreign: Tensor

    @property
    def own_ratio(self) -> float:
        """Mean loss with the own reference over none: below 1 where references inform."""
        return float(self.own.mean() / self.none.mean())

    @property
    def foreign_ratio(self) -> float:
        """Mean loss with a foreign reference over the own: above 1 where their content matters."""
        return float(self.foreign.mean() / self.own.mean())


@torch.no_grad()
def reference_table(
    estimate: Callable[[Tensor, int], Tensor],
    session: SharedAttention,
    alphas_cumprod: Tensor,
    frames: Tensor,
    references: Tensor,
    *,
    timesteps: Sequence[int] = TIMESTEPS,
) -> list[ReferenceRow]:
    """One row per timestep over N pairs of clean latents ``frames``, ``references`` [N, C, h, w].

    ``estimate(z_t, t)`` is the Tweedie mean of the network that ``session`` is installed in. Pair i's
    foreign reference is that of pair i + N/2, its noise depends on i and t alone, and each pair is computed
    by itself.
    """
    count = len(frames)

    def noisy(z: Tensor, t: int, purpose: str, i: int) -> Tensor:
        noise = keyed_normal(tuple(z.shape), "reference table", purpose, t, i).to(z)
        return alphas_cumprod[t].sqrt() * z + (1 - alphas_cumprod[t]).sqrt() * noise

    harvests = []
    for i in range(count):
        shown = noisy(references[i : i + 1], REFERENCE_TIMESTEP, "reference", i)
        harvests.append(session.harvest(lambda z=shown: estimate(z, REFERENCE_TIMESTEP)))
    rows = []
    for t in timesteps:
        losses = torch.zeros(3, count, dtype=torch.float64)
        for i in range(count):
            z0 = frames[i : i + 1]
            z = noisy(z0, t, "frame", i)
            for kind, readers in enumerate(
                ([], [Reader(harvests[i])], [Reader(harvests[(i + count // 2) % count])])
            ):
                with session.reading(readers):
                    losses[kind, i] = (estimate(z, t) - z0).double().square().mean().cpu()
        rows.append(ReferenceRow(t, *losses))
    return rows
