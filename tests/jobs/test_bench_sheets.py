"""The sheets of operators: three panels each, figures beside, from the bundled clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from jobs.bench import sheets
from jobs.bench.sheet_cases import cases


def test_a_sheet_shows_damaged_restored_and_truth_and_a_row_says_how_far_apart_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = cases()
    few = {
        "denoise": every["denoise"],
        "super_resolution_area": every["super_resolution_area"],
        "colorization": every["colorization"],
        "interlace": replace(every["interlace"], frames=4),
        "destriping": every["destriping"],
    }
    monkeypatch.setattr(sheets, "cases", lambda: few)
    monkeypatch.setattr(sheets, "CROP", (60, 60, 32, 48))

    result = sheets.run(False, tmp_path)

    assert [row["sheet"] for row in result.rows] == list(few)
    for row in result.rows:
        drawn = cv2.imread(str(tmp_path / "sheets" / f"{row['sheet']}.jpg"))
        assert drawn.shape[1] == 3 * 48 + 2 * 4
        assert row["gain_db"] == pytest.approx(row["restored_db"] - row["damaged_db"], abs=0.02)
    assert result.rows[0]["gain_db"] > 1.0


def test_a_quick_run_leaves_clips_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = cases()
    few = {"denoise": every["denoise"], "interlace": every["interlace"]}
    monkeypatch.setattr(sheets, "cases", lambda: few)
    monkeypatch.setattr(sheets, "CROP", (60, 60, 32, 48))
    assert [row["sheet"] for row in sheets.run(True, tmp_path).rows] == ["denoise"]
