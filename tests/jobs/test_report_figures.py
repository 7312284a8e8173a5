"""Figures on the report: charts, quality along a video, throughput, timeline, and the script of sliders."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, draw, ticks
from jobs.report import build_page, render_report
from jobs.report_quality import Borders, borders_of, measure
from jobs.report_run import rows_of_run, throughput, timeline
from jobs.report_spans import open_clip, read_span, spans_of
from pipeline.journal import CHUNKS, merge_rows
from pipeline.manifest import ChunkRow, read_video_rows
from pipeline.style_pictures import StylePictures
from tests.jobs.media import published_store, write_clip

START = 1_767_323_045.0  # 2026-01-02 03:04:05 UTC


def unit(
    number: int, level: Any = "chunk", actor: str = "n/1", begun: float = START, **more: Any
) -> ChunkRow:
    first = more.pop("first", 6 * number)
    return ChunkRow(
        key=f"k{level}{number}",
        video_uri=more.pop("uri", "a.mp4"),
        level=level,
        scene=more.pop("scene", 0),
        chunk=number,
        first=first,
        last=first + 6,
        frames=6,
        seconds=2.0,
        attempts=1,
        node="n",
        metrics=more.pop("metrics", {}),
        actor=actor,
        begun=begun,
        ended=begun + more.pop("took", 2.0),
    )


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.98, 1.31), (-3, 0.2), (5, 5), (0, 0), (12000, 98000)])
def test_ticks_are_few_round_and_around_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found[0] <= low
    assert found[-1] >= high
    assert all(len(f"{value:g}") <= 6 for value in found)


def test_a_chart_stays_inside_its_frame_leaves_gaps_open_and_drops_what_is_no_number() -> None:
    points = ((0.0, 1.0), (1.0, math.nan), (2.0, 3.0), (9.0, 2.0))
    chart = draw("t", [Curve("a", points, gap=3.0), Curve("b", ((4.0, 2.5),), dots=True)], bound=2.0)
    assert chart is not None
    line, dots = chart.curves
    assert re.sub(r"[^ML]", "", line.path) == "MLM"
    numbers = [float(n) for n in re.findall(r"[\d.]+", line.path)]
    assert all(LEFT <= x <= WIDTH - RIGHT for x in numbers[::2])
    assert all(TOP <= y <= HEIGHT - BOTTOM for y in numbers[1::2])
    assert len(dots.dots) == 1
    assert chart.bound is not None
    assert draw("t", [Curve("a", ((0.0, math.nan),))]) is None


def test_spans_lie_apart_inside_the_video_and_cover_a_short_one() -> None:
    assert spans_of(100, 240) == [range(100)]
    assert spans_of(0, 240) == []
    for frames in (241, 250, 1000, 99_999):
        spans = spans_of(frames, 240)
        assert [len(span) for span in spans] == [24] * 10
        assert all(before[-1] < after[0] for before, after in itertools.pairwise(spans))
        assert spans[-1][-1] < frames
    assert spans_of(5000, 20) == [range(2488, 2512)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_span_holds_the_frames_of_its_ordinals(tmp_path: Path, suffix: str) -> None:
    clip = open_clip(str(write_clip(tmp_path / f"a.{suffix}", frames=20)))
    found = read_span(clip, range(7, 12), (32, 24))
    assert sorted(found) == list(range(7, 12))
    for ordinal, rgb in found.items():
        assert rgb.shape == (24, 32, 3)
        assert abs(float(np.median(rgb)) - 10 * ordinal) < 8


def test_borders_are_chunks_and_knots_but_for_cuts() -> None:
    rows = [
        unit(0, metrics={"knots": [0, 4, 5]}),
        unit(1, metrics={"knots": [6, 11]}),
        unit(2, scene=1),
        unit(3, scene=1),
        unit(9, uri="b.mp4"),
        unit(1, "anchors"),
    ]
    assert borders_of(rows, "a.mp4") == Borders(frozenset({0, 4, 5, 6, 11, 18}), frozenset({12}))


def test_quality_is_measured_against_the_source_and_shows_a_seam(tmp_path: Path) -> None:
    calm = write_clip(tmp_path / "calm.mkv", frames=24, shade=0)
    seams = Borders(frozenset({12}), frozenset())
    same = dict(measure(str(calm), str(calm), seams, None, 240).figures)
    assert float(same["boundary index over the source's"]) == pytest.approx(1.0, abs=1e-3)
    assert float(same["PSNR to the source, dB"]) == 60.0
    assert "style distance" not in same
    brighter = StylePictures((np.full((8, 8, 3), 200, np.uint8),), (1.0,), "")
    found = measure(str(calm), str(write_clip(tmp_path / "b.mkv", frames=24, shade=40)), seams, brighter, 240)
    assert float(dict(found.figures)["PSNR to the source, dB"]) < 20
    assert 0 < float(dict(found.figures)["style distance"]) <= 1
    assert [chart.title for chart in found.charts] == [
        "E_warp",
        "Boundary index",
        "Fidelity",
        "Style distance",
    ]


def test_videos_of_different_lengths_are_not_measured(tmp_path: Path) -> None:
    long, short = (write_clip(tmp_path / f"{n}.mp4", frames=n) for n in (12, 10))
    assert measure(str(long), str(short), Borders(frozenset(), frozenset()), None, 240).figures == ()


def test_throughput_spreads_frames_over_the_time_they_took() -> None:
    rows = [unit(0), unit(1, begun=START + 2.0), unit(0, "anchors", begun=START - 1.0, took=1.0)]
    chart = throughput(rows)
    assert chart is not None
    heights = re.findall(r"[ML][\d.]+ ([\d.]+)", chart.curves[0].path)
    assert len(heights) == 60
    assert len(set(heights[20:])) == 1
    assert heights[0] == str(HEIGHT - BOTTOM)
    assert throughput([unit(0, "anchors")]) is None


def test_the_timeline_has_a_line_per_process_and_one_bar_for_a_group_of_knots() -> None:
    rows = [
        unit(0),
        unit(1, actor="n/2"),
        unit(2, "knot", "n/2", START + 5),
        unit(3, "knot", "n/2", START + 5),
    ]
    found = timeline(rows)
    assert found is not None
    assert [label.label for label in found.labels] == ["#1", "#2"]
    assert [(bar.level, bar.y) for bar in found.bars] == [("chunk", 3.0), ("chunk", 21.0), ("knot", 21.0)]
    assert all(bar.x + bar.width <= WIDTH - RIGHT + 1 for bar in found.bars)
    many = timeline([unit(n, actor=f"n/{n}") for n in range(50)])
    assert many is not None
    assert (len(many.labels), many.hidden) == (40, 10)
    assert timeline([]) is None


def test_only_units_of_the_run_and_with_a_time_are_drawn() -> None:
    mine, earlier, unknown = unit(0), unit(1, begun=START - 7200), unit(2, begun=0.0)
    rows = [mine, earlier, unknown, unit(3, begun=START + 7200)]
    assert rows_of_run(rows, "20260102T030405Z-aaaaaa", 10.0) == [mine]
    assert rows_of_run([mine, earlier, unknown], "my-run", None) == [mine, earlier]


def test_the_page_shows_figures_timeline_digests_and_what_is_left_without_torch(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out", quarantined=True, left=("/in/left.mp4",))
    run_id = "20260102T030405-aaaa"
    uri = str(tmp_path / "in" / "a.mp4")
    merge_rows(store, CHUNKS, [unit(0, uri=uri), unit(1, uri=uri, actor="n/2", metrics={"knots": [6, 9]})])
    store.put(f"runs/{run_id}/job.yaml", b"name: nightly\nsource: a.mp4\noutput: out\n")
    page = build_page(store, run_id, read_video_rows(store), {}, ())
    assert page.left == ("/in/left.mp4",)
    assert {"E_warp, x 1e-3", "PSNR to the source, dB"} <= set(page.measured)
    assert page.timeline is not None
    html = render_report(page)
    assert html.count("<svg") == 2 + 3
    assert dict(page.digests)["job file SHA-256"] in html
    assert "bad.mp4 was cut off" in html
    code = f"""if True:
        import sys
        from jobs.report import build_page
        from pipeline.manifest import read_video_rows
        from pipeline.store import Store
        store = Store({str(tmp_path / "out")!r})
        page = build_page(store, {run_id!r}, read_video_rows(store), {{}}, ())
        print(len(page.measured), "torch" in sys.modules)"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == f"{len(page.measured)} False\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript without node")
def test_the_sliders_script_moves_its_own_pictures_border_and_nothing_else() -> None:
    script = files("jobs.templates").joinpath("report.js").read_text()
    around = """
    let hear; const set = [];
    globalThis.document = { addEventListener(kind, f) { if (kind === "input") hear = f; } };
    %s
    const slider = (value, inside) => ({
      value, matches: (selector) => inside && selector === ".compare input",
      setAttribute: (name, text) => set.push([name, text]),
      parentNode: { style: { setProperty: (name, text) => set.push([name, text]) } },
    });
    hear({ target: slider("30", true) }); hear({ target: slider("70", false) });
    console.log(JSON.stringify(set));
    """
    told = subprocess.run(["node", "-e", around % script], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == [["--cut", "30%"], ["aria-valuetext", "30 % before"]]


def test_the_policy_of_the_page_allows_its_own_script_and_no_other(tmp_path: Path) -> None:
    import base64
    import hashlib

    store = published_store(tmp_path / "out")
    html = render_report(build_page(store, "r1", read_video_rows(store), {}, ()))
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in html
    )
    assert re.search(r'<input type="range"[^>]*aria-label="before and after at ', html)
