"""Keyed noise: equal for equal keys, unrelated otherwise, with the promised correlation."""

from __future__ import annotations

import torch

from operators.noise import frame_noise, keyed_normal

SHAPE = (4, 32, 32)


def noise(frame: int, *, seed: int = 7, source: str = "s", scene: int = 0, rho: float = 0.8) -> torch.Tensor:
    return frame_noise(
        SHAPE, seed=seed, source_digest=source, scene=scene, frame=frame, purpose="start", rho=rho
    )


def test_the_noise_of_a_frame_does_not_depend_on_what_was_drawn_before() -> None:
    first = noise(12)
    torch.manual_seed(99)
    torch.randn(1000)
    noise(3)
    assert torch.equal(noise(12), first)


def test_every_part_of_the_key_changes_the_noise() -> None:
    base = noise(12)
    for other in (noise(13), noise(12, seed=8), noise(12, source="t"), noise(12, scene=1)):
        assert not torch.equal(base, other)


def test_key_parts_do_not_collide_by_concatenation() -> None:
    assert not torch.equal(keyed_normal((8,), "ab", "c"), keyed_normal((8,), "a", "bc"))
    assert not torch.equal(keyed_normal((8,), 1), keyed_normal((8,), "1"))


def test_frames_of_a_scene_are_standard_normal_with_correlation_rho() -> None:
    for rho in (0.0, 0.8, 1.0):
        a = torch.stack([noise(f, rho=rho).flatten() for f in range(0, 16, 2)])
        b = torch.stack([noise(f, rho=rho).flatten() for f in range(1, 16, 2)])
        assert abs(a.std().item() - 1) < 0.03
        assert abs((a * b).mean().item() - rho) < 0.05
