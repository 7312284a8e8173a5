"""Neighbouring frames agree along the optical flow: the flow-guided latent loss of MGLD-VSR (Yang et al.
2024, "Motion-Guided Latent Diffusion for Temporally Consistent Real-world Video Super-resolution", arXiv
2312.00853, eq. 6), by its formula (the released code has an index slip)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Forward-backward check, as released: |f + b|^2 < ALPHA (|f|^2 + |b|^2) + BETA, in cells.
ALPHA, BETA = 0.01, 0.5
#: |r| is rounded off below this, else rounding errors of equal frames would get the gradient of real ones.
ROUND = 1e-3


@dataclass(frozen=True)
class ClipFlows:
    """Optical flow of a clip of T frames on the latent grid, in cells (dx, dy).

    ``forward`` [T-1, 2, h, w]: where each cell of frame i is found in frame i + 1. ``backward``: where each
    cell of frame i + 1 is found in frame i.
    """

    forward: Tensor
    backward: Tensor

    def resized(self, height: int, width: int) -> ClipFlows:
        """The same motion on another grid: sizes and values scaled."""
        return ClipFlows(_resized(self.forward, height, width), _resized(self.backward, height, width))


def warp(z: Tensor, flow: Tensor) -> Tensor:
    """z [B, C, h, w] looked up at each cell plus ``flow`` [B, 2, h, w], bilinear; 0 outside the picture."""
    height, width = z.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=z.device), torch.arange(width, device=z.device), indexing="ij"
    )
    x = (columns + flow[:, 0] + 0.5) * 2.0 / width - 1.0
    y = (rows + flow[:, 1] + 0.5) * 2.0 / height - 1.0
    return F.grid_sample(z, torch.stack([x, y], -1).to(z.dtype), padding_mode="zeros", align_corners=False)


def visible(flow: Tensor, back: Tensor) -> Tensor:
    """1 where following ``flow`` and then ``back`` returns, and stays inside; else 0. [B, 1, h, w]."""
    returned = warp(back, flow)
    inside = warp(torch.ones_like(flow[:, :1]), flow) > 0.999
    slack = ALPHA * (flow.square() + returned.square()).sum(1, keepdim=True) + BETA
    agrees = (flow + returned).square().sum(1, keepdim=True) < slack
    return (agrees & inside).to(flow.dtype)


def flow_loss(z: Tensor, flows: ClipFlows) -> Tensor:
    """sum over neighbours i, j of || M_ij (warp(z_j, f_ij) - z_i) ||_1; z [T, C, h, w]. Zero on a still clip
    with zero flow; |r| is sqrt(r^2 + d^2) - d with d = ROUND."""
    ahead = visible(flows.forward, flows.backward) * (warp(z[1:], flows.forward) - z[:-1])
    behind = visible(flows.backward, flows.forward) * (warp(z[:-1], flows.backward) - z[1:])
    return _length(ahead).sum() + _length(behind).sum()


def flow_gradient(z: Tensor, flows: ClipFlows) -> Tensor:
    """grad_z `flow_loss`, [T, C, h, w]: frames of a clip meet here."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_(True)
        return torch.autograd.grad(flow_loss(leaf, flows), leaf)[0]


def _length(r: Tensor) -> Tensor:
    return (r.square() + ROUND**2).sqrt() - ROUND


def _resized(flow: Tensor, height: int, width: int) -> Tensor:
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(1, 2, 1, 1)
    return F.interpolate(flow, (height, width), mode="bilinear", align_corners=False) * scale
