"""The benchmark of the embedded model: its table on two pictures, its samples, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.bench import baselines, embedded, prior
from jobs.bench.samples import Sample, evenly, read_samples
from jobs.bench.scores import HIGHEST_DB, mean_score, score, standard_error
from jobs.bench.tasks import RIVALS
from jobs.cli import app
from tests.support.shared import shared_dir


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth random colours with some edges, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255.0
    return np.where(smooth > 160.0, smooth - 60.0, smooth).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    (pictures / "deeper").mkdir(parents=True)
    cv2.imwrite(str(pictures / "a.png"), picture(1, 256, 256))
    cv2.imwrite(str(pictures / "deeper" / "b.jpg"), picture(2, 260, 300))
    (pictures / "notes.txt").write_text("no picture")
    return pictures


@pytest.mark.slow
def test_every_task_is_measured_against_its_rivals_and_kept_as_json(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prior, "QUICK_PAIRS", 2)
    monkeypatch.setattr("jobs.bench.tasks.baselines.has_bm3d", lambda: False)
    monkeypatch.setattr(prior, "has_bm3d", lambda: False)
    ran = CliRunner().invoke(app, ["bench", "prior", "--json", "--quick", "--pictures", str(folder)])
    assert ran.exit_code in (0, 1), ran.stderr
    facts = json.loads(ran.stdout)
    assert facts == json.loads((tmp_path / "bench-out" / "prior.json").read_text())
    assert f"--quick --pictures {folder}" in facts["command"]
    rows = {(row["task"], row["method"]): row for row in facts["rows"]}
    assert {row["px"] for row in facts["rows"]} == {256}
    for task, rivals in RIVALS.items():
        assert rows[task, "ours"]["samples"] == 2
        best = max(rows[task, rival]["psnr_db"] for rival in rivals)
        (gain,) = [row for row in facts["rows"] if row["task"] == task and "ours minus" in row["method"]]
        assert gain["psnr_db"] == pytest.approx(rows[task, "ours"]["psnr_db"] - best, abs=0.002)
    assert rows["denoise 0.1", "BM3D: package bm3d is not installed"]["psnr_db"] is None
    assert [row["t"] for row in facts["tables"]["references"]] == [150, 400, 600] * 2
    styles = {row["reference"]: row for row in facts["tables"]["style by attention alone"]}
    assert set(styles) == {"none", "own", "style"}
    assert styles["own"]["from own"] == 0 < styles["style"]["from own"]
    assert len(facts["targets"]) == 1 + len(RIVALS) + 2 + 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prior"], "needs a folder"),
        (["gops", "--pictures", "."], "leave it out"),
        (["prior", "--pictures", "nowhere"], "nowhere is no folder"),
        (["prior", "--pictures", "empty"], "no picture"),
        (["prior", "--pictures", "small"], "256 x 256"),
        (["prior", "--pictures", "broken"], "cannot be read as a picture"),
    ],
)
def test_a_folder_that_is_missing_unasked_or_unusable_is_bad_input(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "small", "broken"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "small" / "a.png"), picture(3, 200, 300))
    (tmp_path / "broken" / "a.png").write_bytes(b"")
    ran = CliRunner().invoke(app, ["bench", *arguments])
    assert ran.exit_code == 2
    assert "--pictures" in ran.stderr
    assert said in ran.stderr


def test_pictures_are_cut_at_their_centre_and_clips_may_be_smaller() -> None:
    frames = picture(4, 240, 432)[None]
    assert Sample("picture", frames).square_up_to(256) is None
    clip = Sample("clip", frames, is_clip=True).square_up_to(256)
    assert clip is not None
    np.testing.assert_array_equal(clip.frames, frames[:, :, 96:336])
    assert Sample("clip", frames[:, :216], is_clip=True).square_up_to(256).frames.shape[1:3] == (208, 208)


def test_clips_give_evenly_spaced_frames() -> None:
    assert evenly(range(8), 4) == [1, 3, 5, 7]
    assert evenly([5, 6], 4) == [5, 6]
    samples = read_samples(shared_dir() / "evalset")
    assert {s.frames.shape[0] for s in samples if s.is_clip} == {4}
    assert {s.frames.shape[0] for s in samples if not s.is_clip} == {1}


def test_back_projection_reproduces_the_block_means_better_than_interpolation() -> None:
    truth = picture(5, 64, 64).astype(np.float32) / 255.0
    y = baselines.block_means(truth, 4)
    plain, projected = baselines.bicubic(y, 4), baselines.back_projected(y, 4)
    misfit = [np.abs(baselines.block_means(x, 4) - y).max() for x in (plain, projected)]
    assert misfit[1] < 0.2 * misfit[0]


def test_holes_alone_count_in_the_psnr_of_a_hole() -> None:
    truth = np.full((32, 32, 3), 0.5, np.float32)
    keep = np.ones((32, 32), np.uint8)
    keep[4:8, 4:8] = 0
    outside = truth.copy()
    outside[20:] = 1.0
    assert score(outside, truth, keep).psnr == HIGHEST_DB
    inside = truth.copy()
    inside[4:8, 4:8] += 10.0 / 255.0
    assert score(inside, truth, keep).psnr == pytest.approx(20.0 * np.log10(25.5), abs=0.01)


def test_the_mean_of_two_scores_has_half_their_distance_as_its_error() -> None:
    truth = picture(6, 32, 32).astype(np.float32) / 255.0
    scores = [score(truth, truth), score(1.0 - truth, truth)]
    assert standard_error(scores).psnr == pytest.approx(abs(scores[0].psnr - scores[1].psnr) / 2)
    assert mean_score(scores).ssim == pytest.approx((scores[0].ssim + scores[1].ssim) / 2)


@pytest.mark.parametrize("samples", [2, 3, 12, 24, 26])
def test_a_foreign_reference_is_cut_from_another_sample(samples: int) -> None:
    which = embedded._partners(samples, 24)
    assert len(which) == 24
    assert all(which[i] != which[(i + 12) % 24] for i in range(24))
