"""What is counted, and that nothing is where there is no Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import metrics
from pipeline.events import phase_events
from pipeline.settings import StorageSettings
from pipeline.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent
TASK = json.dumps({"ordinals": [4, 5, 6]})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, dict[str, str]]]:
    """Every figure as it would go to Ray: name, value, labels; seconds are left out."""
    figures: list[tuple[str, float, dict[str, str]]] = []

    def tell(metric: metrics.Metric, value: float, **tags: str) -> None:
        assert set(tags) == set(metric.tags)
        if metric is not metrics.SECONDS:
            figures.append((metric.name, value, tags))

    monkeypatch.setattr(metrics, "_tell", tell)
    return figures


@metrics.measured
def _step(row: dict[str, Any], context: None, stage: str, work: dict[str, Any]) -> dict[str, Any]:
    return {**row, **work}


def test_an_attempt_that_went_well_counts_itself_and_its_frames(told: list[Any]) -> None:
    _step({"status": "ok", "task": TASK}, None, "encode", {})
    assert told == [
        ("reelweave_units", 1, {"stage": "encode", "code": "ok"}),
        ("reelweave_frames", 3, {"stage": "encode"}),
    ]


def test_a_failed_attempt_counts_by_its_code_and_no_frames(told: list[Any]) -> None:
    failure = json.dumps({"code": "store", "message": "gone"})
    _step({"status": "ok", "task": TASK}, None, "decode", {"status": "failed", "failure": failure})
    assert told == [("reelweave_units", 1, {"stage": "decode", "code": "store"})]


def test_a_row_that_had_failed_before_counts_nothing(told: list[Any]) -> None:
    _step({"status": "failed", "task": TASK, "failure": "{}"}, None, "encode", {})
    assert told == []


def test_a_phase_shows_how_much_of_it_is_left(told: list[Any]) -> None:
    show = phase_events(lambda event: None, "frames", 2)
    show({})
    show({})
    assert [(value, tags) for _, value, tags in told] == [(n, {"phase": "frames"}) for n in (2, 1, 0)]


def test_bytes_of_the_output_are_counted_once_written_and_once_read(told: list[Any], tmp_path: Path) -> None:
    store = Store(str(tmp_path), StorageSettings())
    store.put("a", b"12345")
    assert not store.put_new("a", b"lost to the one before")
    assert store.read("a") == b"12345"
    (tmp_path / "local").write_bytes(b"1234567")
    store.put_file("b", tmp_path / "local")
    store.get_file("b", tmp_path / "copy")
    sizes = [(name, value) for name, value, _ in told if value]
    assert sizes == [
        ("reelweave_bytes_written", 5),
        ("reelweave_bytes_read", 5),
        ("reelweave_bytes_written", 7),
        ("reelweave_bytes_read", 7),
    ]


def test_without_ray_nothing_is_counted_and_nothing_imports_it() -> None:
    program = (
        "import sys; from pipeline.store import Store; from pipeline import metrics\n"
        "Store('memory://x').put('a', b'1'); metrics.show_lease(held=True)\n"
        "assert 'ray' not in sys.modules"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_names_are_ours_and_fit_prometheus() -> None:
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("reelweave_") and not name.endswith("_total") for name in names)
