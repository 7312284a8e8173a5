"""How many frames may be differentiated at once: slices under a stated memory budget."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior

#: Bytes that autograd may keep for one slice of frames. A constant, and no share of what the machine has:
#: slices of another size round differently, and a frame must not depend on where it is restored.
GRADIENT_BUDGET = 4 * 2**30


def rows_within(prior: LatentPrior, operator: ForwardOperator, budget: int = GRADIENT_BUDGET) -> int:
    """Rows whose autoencoder activations fit in ``budget`` bytes together, at least 1.

    Measured on one grey picture of the operator's size, there and back, as PSLD needs it: one evaluation of
    each. Where not even one row fits, a prior that can is told to recompute in the backward pass. The
    network's own activations are not sliced, since frames that share attention meet it together.
    """
    kept = activation_bytes(prior, operator)
    if kept > budget and hasattr(prior, "recompute_in_backward"):
        prior.recompute_in_backward()
        kept = activation_bytes(prior, operator)
    return max(1, budget // max(1, kept))


def activation_bytes(prior: LatentPrior, operator: ForwardOperator) -> int:
    """What autograd keeps of decoding, measuring and encoding one picture, in bytes; shared storage and
    parameters count once."""
    table = prior.alphas_cumprod
    grey = torch.zeros(1, 3, operator.height, operator.width, dtype=table.dtype, device=table.device)
    with torch.no_grad():
        z = prior.encode(grey)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x = prior.decode(z.requires_grad_(True))
        # Held until counted: a freed storage may be handed out again under the same address.
        graph = (operator.apply(x), prior.encode(x))
    total = sum(kept.values())
    del graph
    return total
