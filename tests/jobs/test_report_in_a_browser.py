"""The report in a real browser: no errors, sliders that slide, nothing wider than the window.

Skipped where no Chromium is found; REELWEAVE_BROWSER names one. REELWEAVE_SCREENSHOTS names a folder in which
pictures of the pages are kept, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs.report import Measures, write_report
from pipeline.journal import CHUNKS, merge_rows
from pipeline.manifest import read_video_rows
from pipeline.run_history import recorded
from pipeline.run_record import RunSummary
from pipeline.store import Store
from tests.jobs.media import published_store, write_clip
from tests.jobs.test_report_figures import START, unit
from tests.support.browser import Tab, browser_tab, find_browser

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no browser was found: set REELWEAVE_BROWSER to a Chromium"
)

RUN = "20260102T030405-aaaa"
LONG = "/a/very/long/path/without/any/place/to/break/" + "film" * 40 + ".mp4"
PIXELS = 320


def written(folder: Path) -> Path:
    """A report with everything on it: pictures, charts, a timeline, refusals, runs, a table, long names."""
    store = published_store(folder / "out", left=(LONG,), quarantined=True)
    source, result = folder / "in" / "a.mp4", folder / "out" / "videos" / "a.mp4"
    # Larger than what the stores of other tests hold, and grey: what is seen tells which of both it is.
    write_clip(source, width=PIXELS, height=180, frames=30)
    write_clip(result, width=PIXELS, height=180, frames=30, shade=40)
    add_run(store, str(source))
    table = Measures("Restoration", ("way", "PSNR / dB"), (("bicubic", "27.1"), (LONG, "29.9")), "A note.")
    return Path(write_report(store, RUN, read_video_rows(store), measures=[table]))


def add_run(store: Store, uri: str) -> None:
    store.put(f"runs/{RUN}/job.yaml", f"name: everything\nsource: [{LONG}]\n".encode())
    store.put(f"runs/{RUN}/metrics.json", b'{"seconds": 12.3}')
    chunks = [unit(n, actor=f"n/{n % 2}", begun=START + 2.0 * (n // 2), uri=uri) for n in range(5)]
    merge_rows(store, CHUNKS, [*chunks, unit(9, "anchors", uri=uri, begun=START - 1.0)])
    for number in range(2):
        with recorded(store, f"{RUN}{number}", "everything", 3) as log:
            log.summary = RunSummary(RUN, 3, 1, 1, number, 5, 0, 12.3, ())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def keep(tab: Tab, name: str) -> np.ndarray:
    seen = tab.picture()
    folder = os.environ.get("REELWEAVE_SCREENSHOTS")
    if folder:
        cv2.imwrite(str(Path(folder) / f"{name}.png"), seen)
    return seen


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("unfolded", [False, True])
def test_nothing_is_wider_than_the_window_and_nothing_complains(
    tab: Tab, report: Path, width: int, unfolded: bool
) -> None:
    tab.problems.clear()
    tab.open(report, width=width)
    if unfolded:
        tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width == tab.evaluate("innerWidth")
    seen = keep(tab, f"report-{width}{'-unfolded' if unfolded else ''}")
    assert seen.shape[1] == width
    assert seen.std() > 5
    assert tab.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert tab.problems == []


@pytest.mark.parametrize("width", [1280, 390])
def test_words_in_charts_can_be_read(tab: Tab, report: Path, width: int) -> None:
    tab.open(report, width=width)
    heights = tab.evaluate(
        "[...document.querySelectorAll('svg text')].map(one => one.getBoundingClientRect().height)"
    )
    assert len(heights) > 20
    assert min(heights) > 9, "CSS pixels"


@pytest.mark.parametrize("width", [1280, 390])
def test_dragging_the_slider_moves_the_border_between_before_and_after(
    tab: Tab, report: Path, width: int
) -> None:
    tab.open(report, width=width, height=2400)
    box = tab.evaluate(
        "(() => { const r = document.querySelector('.compare').getBoundingClientRect();"
        " return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })()"
    )
    x, y, wide, high = box

    def grey(share: float) -> float:
        """What is seen of the picture at this share of its width, above the middle, beside the labels."""
        seen, column = keep(tab, f"slider-{width}"), round(x + share * wide)
        return float(np.median(seen[round(y + 0.25 * high) : round(y + 0.4 * high), column - 3 : column + 3]))

    left, right = grey(0.35), grey(0.65)
    assert 25 < right - left < 55, "before on the left, and after, which is 40 brighter, on the right"
    tab.drag((x + 0.5 * wide, y + 0.5 * high), (x + 0.8 * wide, y + 0.5 * high))
    assert abs(float(tab.evaluate("document.querySelector('.compare input').value")) - 80) < 6
    assert abs(grey(0.65) - left) < 8, "uncovered: before is seen at both places"
    tab.drag((x + 0.8 * wide, y + 0.5 * high), (x + 0.2 * wide, y + 0.5 * high))
    assert abs(grey(0.35) - right) < 8, "after is seen at both places"
    assert tab.evaluate("document.querySelectorAll('.compare input')[1].value") == "50"


def test_errors_of_a_page_are_noticed(tab: Tab, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>nothing.here(); </script><img src='none.png'><p style='width:2000px'>wide</p>")
    tab.problems.clear()
    tab.open(page, width=1280)
    assert any("nothing is not defined" in problem for problem in tab.problems)
    assert tab.evaluate("document.documentElement.scrollWidth") > 1280
