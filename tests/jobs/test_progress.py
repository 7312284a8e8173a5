"""Progress as lines of JSON for logs, and that the live display takes any event."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest

from jobs.progress import JsonProgress, _in_words, _live, progress


@dataclass(frozen=True)
class FakeEvent:
    """The fields of `pipeline.events.Event`, without importing what it counts with."""

    kind: str
    message: str
    done: int = 0
    total: int = 0
    frames: int = 0
    actor: str = ""


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_lines_count_and_never_skip_the_last_chunk() -> None:
    now = [0.0]
    out = io.StringIO()
    show = JsonProgress(out, clock=lambda: now[0])
    show(FakeEvent("phase", "frames", 0, 100))
    for n in range(1, 101):
        now[0] += 1.0
        show(FakeEvent("chunk", "frames", n, 100))
    told = lines(out)
    assert 15 <= len(told) <= 25
    assert told[0] == {"seconds": 0.0, "kind": "phase", "message": "frames", "done": 0, "total": 100}
    assert told[-1] == {"seconds": 100.0, "kind": "chunk", "message": "frames", "done": 100, "total": 100}


def test_lines_tell_frames_per_second_time_left_actors_and_quarantined_videos() -> None:
    now = [100.0]
    out = io.StringIO()
    show = JsonProgress(out, clock=lambda: now[0])
    show(FakeEvent("phase", "indexing", 0, 2))
    show(FakeEvent("quarantined", "quarantined a.mp4: empty: has no bytes"))
    now[0] += 50.0
    show(FakeEvent("phase", "frames", 0, 10))
    for n in (1, 2, 3, 4):
        now[0] += 10.0
        show(FakeEvent("chunk", "frames", n, 10, frames=16, actor=f"node/{n % 2}"))
    assert lines(out)[-1] == {
        "seconds": 90.0,
        "kind": "chunk",
        "message": "frames",
        "done": 4,
        "total": 10,
        "frames_per_second": 1.6,
        "eta_seconds": 60,
        "actors": 2,
        "quarantined": 1,
    }
    figures = {"frames_per_second": 1.6, "eta_seconds": 60, "actors": 2, "quarantined": 1}
    assert _in_words(figures) == "1.6 frames/s, 2 actors, 1 quarantined"


def test_a_long_wait_repeats_the_last_line_from_time_to_time() -> None:
    now = [0.0]
    out = io.StringIO()
    show = JsonProgress(out, clock=lambda: now[0])
    show.beat()
    show(FakeEvent("phase", "frames", 0, 2))
    for _ in range(40):
        now[0] += 1.0
        show.beat()
    assert [(line["seconds"], line.get("waiting")) for line in lines(out)] == [
        (0.0, None),
        (15.0, True),
        (30.0, True),
    ]


def test_without_a_terminal_progress_is_lines_of_json_and_ends_with_the_block(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress() as show:
        show(FakeEvent("phase", "frames", 1, 2))
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "frames"


def test_events_without_a_total_have_no_counts_and_odd_names_stay_one_line() -> None:
    out = io.StringIO()
    JsonProgress(out)(FakeEvent("log", "starting \n \udcff.mp4"))
    (line,) = lines(out)
    assert set(line) == {"seconds", "kind", "message"}


def test_the_live_display_takes_brackets_and_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with _live() as show:
        for kind in ("phase", "video", "chunk", "log", "quarantined"):
            show(FakeEvent(kind, "[/bold] a[0].mp4", 1, 2, 8, "node/1"))
    assert "a[0].mp4" in capsys.readouterr().err
