"""From estimates to the degradations of a job file."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.spec import parse_spec
from operators.degradations.registry import build_operator, measurement_sigma
from operators.estimation.bars import Bars
from operators.estimation.degradation import estimate_degradation, suggested_degradations
from tests.operators.estimation.scenes import blurred, noisy, pan, with_logo


def film_of(sigma: float, codes: float) -> np.ndarray:
    frames = pan(200, 300, 12, 7)
    soft = np.stack([blurred(frame, sigma) for frame in frames]) if sigma else frames
    return noisy(soft, codes, seed=1)


def test_a_good_film_needs_nothing() -> None:
    assert suggested_degradations(estimate_degradation(film_of(0.0, 0.5))) == ()


def test_noise_alone_is_to_be_denoised_at_its_level() -> None:
    (stage,) = suggested_degradations(estimate_degradation(film_of(0.0, 10.0)))
    assert stage["kind"] == "denoise"
    assert stage["noise"] == pytest.approx(10.0 / 255.0, rel=0.1)


def test_blur_is_undone_together_with_the_noise() -> None:
    (stage,) = suggested_degradations(estimate_degradation(film_of(2.0, 5.0)))
    assert (stage["kind"], stage["kernel"]) == ("deblur", "gaussian")
    assert stage["sigma"] == pytest.approx(2.0, rel=0.15)
    assert stage["noise"] == pytest.approx(5.0 / 255.0, rel=0.1)


def test_a_logo_is_filled_first_and_bars_are_left_alone() -> None:
    film = with_logo(film_of(0.0, 10.0), (120, 60, 60, 34))
    film[:, :20] = 16
    estimate = estimate_degradation(film)
    first, second = suggested_degradations(estimate)
    assert first["kind"] == "inpainting"
    assert len(first["boxes"]) == 1
    assert second["kind"] == "denoise"
    assert estimate.bars == Bars(top=20)


def test_every_suggestion_is_a_valid_job_and_a_working_operator() -> None:
    film = with_logo(film_of(2.0, 6.0), (120, 60, 60, 34))
    stages = suggested_degradations(estimate_degradation(film))
    assert [stage["kind"] for stage in stages] == ["inpainting", "deblur"]
    enhance = [{"restore": {"degradation": stage}} for stage in stages]
    spec = parse_spec({"name": "auto", "source": "in/*.mp4", "output": "out", "enhance": enhance})
    for item in spec.to_settings().enhance:
        written = item["restore"]["degradation"]
        operator = build_operator(written, 200, 300, {})
        assert operator.noise_model.sigma == measurement_sigma(written)
