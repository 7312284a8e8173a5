"""The bundled clip and reference, the degraded copy, and the two jobs of the demo."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from jobs.demo.degrade import NOISE, SCALE, bicubic, degrade, psnr, read_clip, write_degraded
from jobs.demo.demo import REFERENCE, TRUTH, DemoResult, restore_job, result_lines, stylize_job


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "source" / "bbb.mp4"
    write_degraded(TRUTH, path)
    return path


def test_the_bundled_assets_are_small_tagged_and_credited() -> None:
    assert TRUTH.stat().st_size <= 1_500_000
    assert REFERENCE.stat().st_size < 600_000
    assert cv2.imread(str(REFERENCE)).shape == (512, 512, 3)
    index, clip = read_clip(TRUTH)
    assert clip.shape == (48, 180, 320, 3)
    assert (index.colour.matrix, index.colour.range, index.colour.matrix_origin) == (1, 1, "source")
    credits = (TRUTH.parent / "CREDITS.md").read_text()
    for words in ("copyright 2008, Blender Foundation / www.bigbuckbunny.org", "CC0", "licenses/by/3.0"):
        assert words in credits


def test_the_degraded_copy_is_what_the_restoration_is_told(degraded: Path) -> None:
    truth_index, truth = read_clip(TRUTH)
    index, clip = read_clip(degraded)
    assert clip.shape == (48, 90, 160, 3)
    assert index.pts == truth_index.pts
    assert index.time_base == truth_index.time_base
    assert index.colour == truth_index.colour
    small = truth.reshape(48, 90, SCALE, 160, SCALE, 3).mean(axis=(2, 4))
    # Halved chroma averages its noise away; the luma keeps what three independent channels give it.
    luma = np.array([0.299, 0.587, 0.114])
    expected = NOISE * float(np.linalg.norm(luma))
    assert float(np.std((clip - small) @ luma)) / 255 == pytest.approx(expected, rel=0.1)
    assert abs(float(np.mean(clip - small))) < 1.0


def test_the_degraded_copy_keeps_the_sound_packet_for_packet(degraded: Path) -> None:
    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(audio=0) if p.size]

    assert packets(degraded) == packets(TRUTH)


def test_degrading_twice_gives_the_same_bytes(degraded: Path, tmp_path: Path) -> None:
    write_degraded(TRUTH, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == degraded.read_bytes()


def test_degrade_averages_areas_and_adds_noise_of_the_stated_size() -> None:
    clip = np.full((4, 64, 64, 3), 128, np.uint8)
    clip[:, ::2] = 100
    out = degrade(clip)
    assert out.shape == (4, 32, 32, 3)
    assert float(out.mean()) == pytest.approx(114, abs=0.3)
    assert float(out.std()) == pytest.approx(255 * NOISE, rel=0.05)


def test_psnr_of_a_known_error() -> None:
    clip = np.full((2, 8, 8, 3), 100, np.uint8)
    assert psnr(clip, clip + 5) == pytest.approx(20 * np.log10(255 / 5))


def test_bicubic_is_a_sane_baseline(degraded: Path) -> None:
    assert 26 < psnr(bicubic(read_clip(degraded)[1]), read_clip(TRUTH)[1]) < 28


def test_both_jobs_of_the_demo_validate_and_differ_in_their_output(tmp_path: Path) -> None:
    restore = restore_job(tmp_path / "s.mp4", tmp_path / "restored").to_settings()
    stylize = stylize_job(tmp_path / "r.mp4", tmp_path).to_settings()
    assert restore.enhance[0]["restore"]["degradation"] == {
        "kind": "super_resolution",
        "scale": SCALE,
        "kernel": "area",
        "noise": NOISE,
    }
    assert stylize.enhance[0]["stylize"]["reference"] == str(REFERENCE)
    for settings in (restore, stylize):
        assert settings.cluster.actors == (2, 2)
        assert settings.consistency.knot_every * settings.consistency.knots_per_chunk == 24
        assert settings.consistency.sharing == "knots"


def test_the_printed_table_says_both_figures_and_where_to_look() -> None:
    paths = (Path("/o/s.mp4"), Path("/o/r.mp4"), Path("/o/v.mp4"))
    result = DemoResult(*paths, "/o/report.html", 29.156, 31.0, 99.7)
    text = "\n".join(result_lines(result))
    for words in ("29.16 dB", "31.00 dB  (+1.84 dB)", "/o/v.mp4", "/o/report.html", "100 s"):
        assert words in text
    assert result.better
