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


def test_noise_of_frames_scenes_and_purposes_is_independent_but_for_the_part_of_the_scene() -> None:
    def draw(frame: int, scene: int, purpose: str) -> torch.Tensor:
        key = {"seed": 7, "source_digest": "s", "rho": 0.8}
        return frame_noise((16, 64, 64), frame=frame, scene=scene, purpose=purpose, **key)

    base = draw(12, 0, "start")
    bound = 5 / base.numel() ** 0.5
    assert abs(float(base.mean())) < bound
    assert abs(float(base.square().mean()) - 1) < bound * 2**0.5
    assert abs(float(base.pow(4).mean()) - 3) < bound * 96**0.5
    assert abs(float((base * draw(13, 0, "start")).mean()) - 0.8) < 2 * bound
    # The frame's own part is keyed by its ordinal in the source, whichever scene it was counted to.
    assert abs(float((base * draw(12, 1, "start")).mean()) - 0.2) < 2 * bound
    assert abs(float((base * draw(13, 1, "start")).mean())) < 2 * bound
    assert abs(float((base * draw(12, 0, "stage 1")).mean())) < 2 * bound


def test_frames_drawn_in_any_order_have_equal_bits() -> None:
    forward = {frame: noise(frame) for frame in range(8)}
    for frame in (5, 2, 7, 0, 3, 6, 1, 4):
        assert torch.equal(noise(frame), forward[frame])
