"""Progress lines for logs, and that the live display takes any event."""

from __future__ import annotations

import io
from dataclasses import dataclass

from jobs.progress import PlainProgress, _live, progress


@dataclass(frozen=True)
class FakeEvent:
    """The fields of `pipeline.graph.Event`, without importing Ray."""

    kind: str
    message: str
    done: int = 0
    total: int = 0


def test_plain_lines_show_percentages_and_never_skip_the_last_chunk() -> None:
    now = [0.0]
    out = io.StringIO()
    show = PlainProgress(out, clock=lambda: now[0])
    show(FakeEvent("phase", "frames", 0, 100))
    for n in range(1, 101):
        now[0] += 1.0
        show(FakeEvent("chunk", "frames", n, 100))
    lines = out.getvalue().splitlines()
    assert 15 <= len(lines) <= 25
    assert lines[0].endswith("0 % (0/100) frames")
    assert lines[-1].endswith("100 % (100/100) frames")
    assert lines[-1].startswith("[ 100.0 s]")


def test_a_long_wait_repeats_the_last_line_from_time_to_time() -> None:
    now = [0.0]
    out = io.StringIO()
    show = PlainProgress(out, clock=lambda: now[0])
    show.beat()
    show(FakeEvent("phase", "frames", 0, 2))
    for _ in range(40):
        now[0] += 1.0
        show.beat()
    lines = out.getvalue().splitlines()
    assert lines == [
        "[   0.0 s]   0 % (0/2) frames",
        "[  15.0 s]   0 % (0/2) frames ...",
        "[  30.0 s]   0 % (0/2) frames ...",
    ]


def test_without_a_terminal_progress_is_plain_lines_and_ends_with_the_block(capsys) -> None:
    with progress() as show:
        show(FakeEvent("phase", "frames", 1, 2))
    assert capsys.readouterr().err.endswith("50 % (1/2) frames\n")


def test_events_without_a_total_have_no_percentage() -> None:
    out = io.StringIO()
    PlainProgress(out)(FakeEvent("log", "starting Ray"))
    assert out.getvalue().endswith("] starting Ray\n")
    assert "%" not in out.getvalue()


def test_the_live_display_takes_brackets_and_all_kinds(capsys) -> None:
    with _live() as show:
        for kind in ("phase", "video", "chunk", "log"):
            show(FakeEvent(kind, "[/bold] a[0].mp4", 1, 2))
    assert "a[0].mp4" in capsys.readouterr().err
