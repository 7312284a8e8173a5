"""Benchmarks of what lies around the model, and of the solvers: rows mean what they say."""

from __future__ import annotations

import pytest

from jobs.bench import io, solvers
from jobs.bench.video_clips import Moving


def test_every_step_of_io_is_timed_beside_a_plain_one_and_leaves_what_it_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(io, "QUICK", Moving(64, 48, 34))
    result = io.run(quick=True)
    assert [row["step"] for row in result.rows] == ["decode to RGB", "encode from RGB", "upload to this disk"]
    assert all(row["frames"] == 34 and row["ours_fps"] > 0 and row["plain_fps"] > 0 for row in result.rows)
    assert result.rows[0]["mib"] == pytest.approx(34 * 64 * 48 * 3 / 2**20, abs=0.01)


def test_solvers_are_listed_fastest_first_with_the_evaluations_that_their_steps_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solvers, "SOLVERS", ("psld", "dpir"))
    monkeypatch.setattr(solvers, "QUICK", (1, 32, 1))
    rows = {row["solver"]: row for row in solvers.run(quick=True).rows}
    assert list(rows) == ["dpir", "psld"]
    # Four steps, each of one network call between an encoding and a decoding; nothing is differentiated.
    assert [rows["dpir"][part] for part in ("forward", "backward", "encode", "decode")] == [4, 0, 4, 4]
    assert rows["psld"]["backward"] > 0
    assert rows["dpir"]["s/picture"] < rows["psld"]["s/picture"]
