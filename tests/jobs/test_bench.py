"""Benchmarks run, keep their JSON and say when a bound is missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.bench import command as bench
from jobs.bench.result import BenchResult, Target
from jobs.cli import app


def test_the_gop_benchmark_prints_one_json_object_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["bench", "gops", "--json", "--quick"])
    facts = json.loads(ran.stdout)
    assert facts == json.loads((tmp_path / "bench-out" / "gops.json").read_text())
    assert [row["gop"] for row in facts["rows"]] == [8, 16, 48]
    assert facts["rows"][0]["bytes"] > facts["rows"][-1]["bytes"]
    assert {"name", "value", "bound", "holds"} == set(facts["targets"][0])
    assert ran.exit_code == (0 if facts["targets"][0]["holds"] else 1)


def test_a_missed_bound_is_said_and_exits_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missed = BenchResult("missed", ({"a": 1},), (Target("never", 0.5, 1.0),))
    monkeypatch.setattr(bench, "BENCHMARKS", {"missed": bench.Benchmark(lambda quick: missed)})
    ran = CliRunner().invoke(app, ["bench", "missed"])
    assert ran.exit_code == 1
    assert "target missed: never" in ran.stderr


def test_an_unknown_benchmark_is_bad_input() -> None:
    ran = CliRunner().invoke(app, ["bench", "nothing"])
    assert ran.exit_code == 2
    assert "restore" in ran.stderr
