"""The plain loop that jobs are measured against computes what they compute."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.bench import naive
from jobs.bench.consistency_policies import Clip, render_chunks
from jobs.bench.naive_plain import PlainLoop


def test_the_plain_loop_makes_the_pictures_that_frames_alone_make() -> None:
    truth = np.random.default_rng(3).integers(60, 200, (2, 32, 32, 3)).astype(np.uint8)
    measured = naive.halved_and_noisy(truth)
    assert measured.shape == (2, 16, 16, 3)
    plain = PlainLoop().restore(measured, naive.plain_solver(measured))
    enhancer = naive.enhancer_for(naive.OURS[0])
    clip = Clip("bundled", len(measured), lambda ordinals: measured[list(ordinals)])
    ours = np.concatenate(list(render_chunks(enhancer, clip, enhancer.config.consistency)))
    enhancer.close()
    assert plain.shape == truth.shape
    # Channels last and one batch shape or another move the last bits, and so a code here and there.
    assert naive.db(ours, plain) > 60.0


def test_a_clip_that_is_too_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naive, "QUICK", naive.Size(frames=10**6, side=64, repeats=1))
    with pytest.raises(naive.SpecError, match="fewer than 1000000 frames"):
        naive.run(quick=True)
