"""Counter-based noise: a function of what it is for, never of when or where it is drawn."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator seeded with blake2b-64 of the key; parts are separated, so no two keys collide
    by concatenation."""
    material = "\x1f".join(f"{type(part).__name__}:{part}" for part in key).encode()
    seed = int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big") >> 1
    return torch.Generator("cpu").manual_seed(seed)


def keyed_normal(shape: Shape, *key: int | str) -> Tensor:
    """Standard normal float32 CPU tensor of ``shape``, equal for equal keys on every machine."""
    return torch.randn(shape, generator=keyed_generator(*key), dtype=torch.float32)


def frame_noise(
    shape: Shape, *, seed: int, source_digest: str, scene: int, frame: int, purpose: str, rho: float
) -> Tensor:
    """Initial noise of one frame, N(0, I): ``sqrt(rho) e_scene + sqrt(1-rho) e_frame``.

    ``rho`` in [0, 1] is the correlation between any two frames of a scene: 1 sticks texture to the
    screen, 0 flickers. ``frame`` is the absolute ordinal in the source.
    """
    own = own_noise(shape, seed=seed, source_digest=source_digest, frame=frame, purpose=purpose)
    return mixed_noise(own, seed=seed, source_digest=source_digest, scene=scene, purpose=purpose, rho=rho)


def own_noise(shape: Shape, *, seed: int, source_digest: str, frame: int, purpose: str) -> Tensor:
    """The part of a frame's noise that no other frame has, N(0, I)."""
    return keyed_normal(shape, seed, source_digest, "frame", frame, purpose)


def mixed_noise(
    own: Tensor, *, seed: int, source_digest: str, scene: int, purpose: str, rho: float
) -> Tensor:
    """``sqrt(rho) e_scene + sqrt(1-rho) own``: N(0, I) where ``own`` is."""
    shared = keyed_normal(tuple(own.shape), seed, source_digest, "scene", scene, purpose)
    return math.sqrt(rho) * shared + math.sqrt(1.0 - rho) * own


@dataclass(frozen=True)
class FrameDraws:
    """Noise of solvers that draw at every step, a `NoiseSource`: row b belongs to ``frames[b]``.

    ``rho`` is the correlation between frames of a scene, as in `frame_noise`: 0 independent, 1 shared, mixed
    in between. ``prefix`` names the stage, so that two restorations in a row do not share their noise.
    """

    seed: int
    source_digest: str
    scene: int
    frames: tuple[int, ...]
    rho: float
    prefix: str

    def normal(self, like: Tensor, step: int, purpose: str) -> Tensor:
        """Standard normal, drawn as float32 on the CPU, in the shape, dtype and device of ``like``."""
        shape, told = tuple(like.shape[1:]), f"{self.prefix} step {step} {purpose}"
        return torch.stack([self.row(shape, frame, told) for frame in self.frames]).to(like)

    def row(self, shape: Shape, frame: int, purpose: str) -> Tensor:
        """The draw of one frame: float32 CPU of ``shape``."""
        return frame_noise(
            shape,
            seed=self.seed,
            source_digest=self.source_digest,
            scene=self.scene,
            frame=frame,
            purpose=purpose,
            rho=self.rho,
        )
