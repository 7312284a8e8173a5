"""The report page: self-contained, escaped, with pictures that can be decoded."""

from __future__ import annotations

import base64
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs.charts import Curve, Tick, draw
from jobs.frames import jpeg_uri, shots_at, shots_at_shares
from jobs.report import Measures, ReportPage, command, render_report, write_report
from jobs.report_page import Refusal, VideoSection
from jobs.report_run import Bar, Timeline
from pipeline.errors import SourceError
from pipeline.manifest import VideoRow, read_video_rows
from tests.jobs.media import published_store, write_clip

EVIL = "<script>alert('x')</script>"
EVIL_CHART = draw(EVIL, [Curve(EVIL, ((0.0, 1.0),))], unit=EVIL, x_unit=EVIL, note=EVIL)
assert EVIL_CHART is not None


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_a_report_shows_before_and_after_at_three_moments_and_links_to_nothing(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out", quarantined=True)
    store.put("runs/r1/job.yaml", b"name: 'my-job'\nseed: 7\n")
    store.put("runs/r1/metrics.json", b'{"seconds": 12.34567, "run_id": "r1", "nested": {"a": 1}}')
    uri = write_report(store, "r1", read_video_rows(store))
    assert uri == str(tmp_path / "out" / "runs" / "r1" / "report.html")
    page = Tags(Path(uri).read_text())
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    after, before = (
        picture(next(one["src"] or "" for one in pictures if one.get("class") == name))
        for name in ("second", "first")
    )
    assert len(pictures) == 1 + 6
    assert before.shape == after.shape == (48, 64, 3)
    assert 30 < float(np.median(after)) - float(np.median(before)) < 50
    assert not [1 for tag, attrs in page.tags if tag in ("link", "iframe") or "srcset" in attrs]
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}]
    links = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    assert links == ["#video-1"]
    assert "http" not in re.sub(r'data:[^"]*|http-equiv', "", Path(uri).read_text()).lower()
    for words in ("my-job", "no_moov", "bad.mp4 was cut off", "12.35", "reelweave 0.1.0", "videos/a.mp4"):
        assert words in page.text


def test_every_text_on_the_page_is_escaped() -> None:
    page = ReportPage(
        title=EVIL,
        run_id=EVIL,
        facts=((EVIL, EVIL),),
        measures=(Measures(EVIL, (EVIL,), ((EVIL,),), EVIL),),
        videos=(VideoSection(EVIL, ((EVIL, EVIL),), (), EVIL, ((EVIL, EVIL),), (EVIL_CHART,), EVIL),),
        listed=(EVIL,),
        more_videos=1,
        left=(EVIL,),
        quarantined=(Refusal(EVIL, EVIL, EVIL, EVIL, 1, EVIL),),
        throughput=EVIL_CHART,
        timeline=Timeline((Tick(1.0, EVIL),), (Bar(1.0, 1.0, 1.0, EVIL, EVIL),), (), 18.0, 0),
        digests=((EVIL, EVIL),),
        versions=((EVIL, EVIL),),
        job_yaml=EVIL,
    )
    html = render_report(page)
    assert re.findall(r"<script.*", html) == ['<script>"use strict";']
    assert html.count("&lt;script&gt;") >= 30


def test_a_video_that_is_gone_leaves_a_note_instead_of_pictures(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    (tmp_path / "in" / "a.mp4").unlink()
    html = Path(write_report(store, "r1", read_video_rows(store))).read_text()
    assert "No pictures:" in html
    assert "<img" not in html


def test_columns_and_measures_of_the_caller_are_shown(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    (row,) = read_video_rows(store)
    truth = write_clip(tmp_path / "truth.mp4", shade=80)
    columns = [("before", row.video_uri), ("restored", row.output_uri), ("truth", str(truth))]
    measures = [Measures("PSNR", ("method", "dB"), (("bicubic", "29.16"), ("restored", "31.00")), "RGB")]
    uri = write_report(store, "r1", [row], columns={row.video_uri: columns}, measures=measures)
    page = Tags(Path(uri).read_text())
    assert len([1 for tag, _ in page.tags if tag == "img"]) == 1 + 3 * (2 + 3)
    assert "29.16" in page.text
    assert "truth" in page.text


def test_only_the_first_videos_of_a_large_run_get_pictures(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    (row,) = read_video_rows(store)
    page = Tags(Path(write_report(store, "r1", [row] * 14)).read_text())
    assert "2 more videos are done" in page.text


def test_a_name_that_is_no_unicode_text_does_not_break_the_page(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    row = VideoRow("/in/\udcff.mp4", "k", "quarantined", code="empty", error="has no bytes")
    assert "has no bytes" in Path(write_report(store, "r1", [row])).read_text()


def test_the_report_command_writes_the_newest_runs_page(tmp_path: Path) -> None:
    published_store(tmp_path / "out")
    assert command(str(tmp_path / "out"), None) == 0
    assert (tmp_path / "out" / "runs" / "20260102T030405-aaaa" / "report.html").exists()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_shots_are_the_frames_at_the_wanted_times(tmp_path: Path, suffix: str) -> None:
    clip = str(write_clip(tmp_path / f"a.{suffix}", frames=20))
    start = shots_at(clip, [Fraction(0)])[0].seconds
    wanted = [start + Fraction(n, 25) for n in (0, 7, 19)]
    shots = shots_at(clip, wanted)
    for n, shot in zip((0, 7, 19), shots, strict=True):
        assert abs(shot.seconds - start - Fraction(n, 25)) <= Fraction(1, 1000)
        assert abs(float(np.median(shot.rgb)) - 10 * n) < 8


def test_shots_at_shares_lie_inside_the_video_and_in_order(tmp_path: Path) -> None:
    shots = shots_at_shares(str(write_clip(tmp_path / "a.mp4", frames=20)), (0.1, 0.5, 1.0))
    assert [shot.seconds for shot in shots] == [Fraction(2, 25), Fraction(10, 25), Fraction(19, 25)]


def test_shots_of_a_file_that_is_no_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(SourceError):
        shots_at(str(tmp_path / "a.mp4"), [Fraction(0)])


def test_wide_pictures_are_reduced_for_the_page() -> None:
    assert picture(jpeg_uri(np.zeros((400, 1600, 3), np.uint8))).shape == (160, 640, 3)
