"""Hours and prices from a calibration: the arithmetic, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from jobs.spec import parse_spec
from pipeline.calibration import Calibration, Span, job_digest, read_calibration
from pipeline.cost_model import predicted, work_left
from pipeline.errors import SpecError
from pipeline.job_plan import JobPlan
from pipeline.settings import JobSettings

STAGES = {
    "decode": Span(1.0, 2.0, 3.0),
    "reference": Span(10.0, 20.0, 30.0),
    "frame": Span(4.0, 5.0, 6.0),
    "chunk": Span(0.0, 100.0, 200.0),
    "encode": Span(0.5, 1.0, 1.5),
}
ESTIMATE = {"frames_left": 100, "output_pixels_left": 400_000_000, "references_left": 10}
PLAN = JobPlan(1, 1, 5, 2, 100, (), estimate=ESTIMATE)


def settings(**changes: object) -> JobSettings:
    degradation = {"kind": "super_resolution", "scale": 2, "noise": 0.02}
    told = {
        "name": "a",
        "source": "a.mp4",
        "output": "o",
        "enhance": [{"restore": {"degradation": degradation}}],
    }
    return parse_spec({**told, **changes}).to_settings()


def calibration(of: JobSettings, device: str = "cpu") -> Calibration:
    return Calibration(job_digest(of), device, "here", STAGES)


def test_work_is_counted_in_megapixels_of_references_frames_and_sources() -> None:
    left = work_left(PLAN, settings())
    assert dataclasses.astuple(left) == (100.0, 40.0, 360.0, 3)
    nothing = dataclasses.replace(
        PLAN, chunks_done=5, estimate={"frames_left": 0, "output_pixels_left": 0, "references_left": 0}
    )
    assert dataclasses.astuple(work_left(nothing, settings())) == (0.0, 0.0, 0.0, 0)


def test_hours_are_the_sum_of_the_stages_and_the_price_that_of_the_devices() -> None:
    job = settings(cluster={"gpus_per_actor": 0.5})
    found = predicted(PLAN, job, calibration(job, "cuda"), 3.6)
    actors = {"low": 40 * 10 + 360 * 4, "middle": 40 * 20 + 360 * 5 + 300, "high": 40 * 30 + 360 * 6 + 600}
    tasks = {"low": 100 + 200, "middle": 200 + 400, "high": 300 + 600}
    assert found["actor_hours"] == {end: pytest.approx(s / 3600, abs=1e-6) for end, s in actors.items()}
    assert found["task_hours"] == {end: pytest.approx(s / 3600, abs=1e-6) for end, s in tasks.items()}
    # Two actors share a GPU, which costs 3.6 an hour.
    assert found["gpu_hours"]["middle"] == pytest.approx(actors["middle"] / 7200, abs=1e-6)
    assert found["price"]["middle"] == pytest.approx(actors["middle"] / 2000, abs=1e-6)


def test_on_cpus_the_price_is_that_of_actors_and_without_one_none_is_told() -> None:
    found = predicted(PLAN, settings(), calibration(settings()), 1.0)
    assert "gpu_hours" not in found
    assert found["price"] == found["actor_hours"]
    assert "price" not in predicted(PLAN, settings(), calibration(settings()), None)


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = calibration(settings())
    made.write(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json", settings()) == made


def test_the_videos_and_the_cluster_of_a_job_do_not_matter_and_its_work_does(tmp_path: Path) -> None:
    calibration(settings()).write(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json", settings(source="b.mp4", seed=3, cluster={"actors": [1, 9]}))
    for changes in (
        {"autoencoder": "analytic"},
        {"consistency": {"sharing": "none"}},
        {"encode": {"crf": 30}},
    ):
        with pytest.raises(SpecError, match="another enhance list"):
            read_calibration(tmp_path / "c.json", settings(**changes))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "no calibration file"),
        ('{"format": "reelweave calibration 1"}', "damaged"),
        ("descending", "no range of seconds"),
    ],
)
def test_files_that_are_none_are_refused_with_the_command_that_makes_one(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "c.json"
    if text == "descending":
        calibration(settings()).write(path)
        facts = json.loads(path.read_text())
        facts["stages"]["frame"]["low"] = 9.0
        text = json.dumps(facts)
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match=words) as refused:
        read_calibration(path, settings())
    assert "bench calibrate --job" in str(refused.value)
    assert refused.value.field == "--calibration"
