"""Muon for the weights of convolutions and linear layers, AdamW for everything else.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks": the momentum of a matrix is
replaced by its nearest semi-orthogonal one. A convolution counts as the matrix [out, in * kh * kw].
"""

from __future__ import annotations

import torch
from torch import nn

MUON_RATE, MUON_MOMENTUM = 0.01, 0.95
#: Self-attention learns at a multiple of the rate: it starts anew where the rest goes on.
ATTENTION_RATE = 2.0
ADAM_RATE, ADAM_BETAS = 1e-3, (0.9, 0.98)
CLIP = 1.0
#: First and last layers face data rather than features; embeddings of time are no matrices of features.
_ADAM_PREFIXES = (
    "conv_in",
    "conv_out",
    "time_embedding",
    "encoder.conv_in",
    "decoder.conv_out",
    "quant_conv",
    "post_quant_conv",
)


class HybridOptimizer:
    """Both optimizers behind one `step`. Matrices of convolutions are views of their weights, so Muon
    changes the network in place."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._views: list[tuple[nn.Parameter, nn.Parameter]] = []
        groups: dict[float, list[nn.Parameter]] = {1.0: [], ATTENTION_RATE: []}
        rest: list[nn.Parameter] = []
        for name, weight in network.named_parameters():
            if weight.ndim >= 2 and not name.startswith(_ADAM_PREFIXES):
                view = nn.Parameter(weight.data.view(weight.shape[0], -1))
                self._views.append((weight, view))
                groups[ATTENTION_RATE if ".attn1." in name else 1.0].append(view)
            else:
                rest.append(weight)
        self._muon = torch.optim.Muon(
            [{"params": views, "multiple": multiple} for multiple, views in groups.items() if views],
            lr=MUON_RATE,
            momentum=MUON_MOMENTUM,
            weight_decay=0.0,
        )
        self._adam = torch.optim.AdamW(rest, lr=ADAM_RATE, betas=ADAM_BETAS, weight_decay=0.0)

    def step(self, rate: float) -> None:
        """Clip the gradients, take one step at ``rate`` times the full learning rates, forget them."""
        nn.utils.clip_grad_norm_(self._network.parameters(), CLIP)
        for group in self._muon.param_groups:
            group["lr"] = MUON_RATE * group["multiple"] * rate
        for group in self._adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        for weight, view in self._views:
            view.grad = None if weight.grad is None else weight.grad.reshape(view.shape)
        self._muon.step()
        self._adam.step()
        for weight in self._network.parameters():
            weight.grad = None

    def state_dict(self) -> dict[str, object]:
        """State of both, for a checkpoint."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up the state of a checkpoint."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
