"""status, verify and clean on stores made by hand."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.clean import clean, expire, seconds_of
from jobs.cli import app
from jobs.outputs import open_output
from jobs.status import count, read_status, status_json
from jobs.verify import check_videos, foreign_objects, verify_json
from pipeline.errors import SpecError, StoreError
from pipeline.lease import LeaseHeldError, hold_lease
from pipeline.manifest import read_video_rows, replace_done_row
from pipeline.store import Store
from tests.jobs.media import published_store, write_clip, write_plan


def test_status_tells_done_quarantined_and_left_apart(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out", left=("/in/late.mp4",), quarantined=True)
    found = status_json(read_status(store))
    assert (found["done"], found["quarantined"], found["left"]) == (1, 1, 1)
    by_uri = {video["video_uri"]: video for video in found["videos"]}
    assert by_uri["/in/late.mp4"] == {
        "video_uri": "/in/late.mp4",
        "status": "left",
        "code": "",
        "error": "",
        "output_uri": "",
    }
    assert by_uri["/in/bad.mp4"]["code"] == "no_moov"
    assert by_uri[str(tmp_path / "in" / "a.mp4")]["output_uri"] == str(tmp_path / "out/videos/a.mp4")


def test_what_only_an_older_run_planned_is_not_left(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    write_plan(store, "20250101T000000-aaaa", ["/in/forgotten.mp4"])
    assert count(read_status(store))["left"] == 0


def test_status_of_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no job has written here"):
        read_status(Store(str(tmp_path)))


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("runs/r1/plan.json", b"{")
    with pytest.raises(StoreError, match=r"runs/r1/plan\.json: not a readable plan"):
        read_status(store)


def test_a_published_video_that_equals_its_row_is_good(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    assert verify_json(1, check_videos(store, read_video_rows(store))) == {"checked": 1, "bad": []}


def test_an_output_folder_that_was_moved_still_verifies(tmp_path: Path) -> None:
    published_store(tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    store = open_output(str(tmp_path / "elsewhere"), None)
    assert check_videos(store, read_video_rows(store)) == []


def test_a_missing_and_a_changed_and_a_broken_video_are_bad(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    rows = read_video_rows(store)
    video = tmp_path / "out" / "videos" / "a.mp4"
    whole = video.read_bytes()

    video.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "content changed" in check_videos(store, rows)[0].problem
    video.write_bytes(whole[: len(whole) // 2])
    assert "content changed" in check_videos(store, rows)[0].problem
    video.unlink()
    (bad,) = check_videos(store, rows)
    assert bad.problem.startswith("missing")
    assert bad.output_uri == str(video)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 13}, "frames is 12, the manifest says 13"),
        ({"frames_md5": "0" * 32}, "frames_md5 is"),
        ({"pts_sha256": "0" * 64}, "pts_sha256 is"),
    ],
)
def test_a_row_that_lies_about_the_pictures_is_bad(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    store = published_store(tmp_path / "out")
    (row,) = read_video_rows(store)
    replace_done_row(store, dataclasses.replace(row, **change))  # type: ignore[arg-type]
    (bad,) = check_videos(store, read_video_rows(store))
    assert words in bad.problem


def _published_facts(store: Store) -> dict[str, Any]:
    from pipeline.video.facts import read_facts

    path = store.uri("videos/a.mp4")
    facts = read_facts(path).record()
    published = {"stream": 0, "decode_errors": 0, "facts": facts}
    return {"bytes": Path(path).stat().st_size, "published": published}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("bytes",), 7, "the manifest says 7"),
        (("published", "decode_errors"), 1, "0 decode errors, the manifest says 1"),
        (("published", "facts", "picture", "colour"), [1, 9, 9, 9], "colour.0 is 0, the manifest says 1"),
        (("published", "facts", "picture", "sample_aspect_ratio"), "4/3", "sample_aspect_ratio is 1/1"),
        (("published", "facts", "picture", "width"), 128, "picture.width is 64, the manifest says 128"),
        (("published", "facts", "streams"), [], "streams is"),
        (("published", "facts", "chapters"), [{"title": "One"}], "chapters is"),
    ],
)
def test_what_was_recorded_at_publication_is_compared_again(
    tmp_path: Path, place: tuple[str, ...], value: object, words: str
) -> None:
    store = published_store(tmp_path / "out")
    (row,) = read_video_rows(store)
    metrics = _published_facts(store)
    replace_done_row(store, dataclasses.replace(row, metrics=metrics))
    assert check_videos(store, read_video_rows(store)) == []
    inner = metrics
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    replace_done_row(store, dataclasses.replace(row, metrics=metrics))
    (bad,) = check_videos(store, read_video_rows(store))
    assert words in bad.problem


def test_a_published_object_that_is_no_video_is_bad(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    (row,) = read_video_rows(store)
    store.put("videos/a.mp4", b"not a video")
    lying = dataclasses.replace(row, output_sha256=store.sha256("videos/a.mp4"))
    (bad,) = check_videos(store, [lying])
    assert bad.problem.startswith("not decodable")


def _but_work_and_leases(store: Store) -> list[str]:
    return [path for path in store.list("") if not path.startswith((".work/", "manifests/leases/"))]


def test_clean_removes_work_files_and_nothing_else(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    before = _but_work_and_leases(store)
    assert clean(store) == 1
    assert store.list(".work") == []
    assert _but_work_and_leases(store) == before
    assert clean(store) == 0


def test_clean_refuses_at_once_while_a_run_goes_on(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    with hold_lease(store, "the-run"):
        with pytest.raises(LeaseHeldError, match="run the-run on"):
            clean(store)
        assert store.list(".work")
    assert clean(store) == 1


def test_a_foreign_file_among_the_results_is_bad(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out", quarantined=True)
    write_clip(tmp_path / "out" / "videos" / "deep" / "b.mp4")
    done = [row for row in read_video_rows(store) if row.status == "done"]
    (bad,) = foreign_objects(store, done)
    assert bad.output_uri == store.uri("videos/deep/b.mp4")
    assert bad.problem.startswith("foreign: no manifest row speaks of it")
    found = CliRunner().invoke(app, ["verify", store.root, "--json"])
    assert found.exit_code == 1
    assert json.loads(found.stdout) == {"checked": 1, "bad": [dataclasses.asdict(bad)]}


@pytest.mark.parametrize("state", [{"left": ("/in/late.mp4",)}, {"quarantined": True}])
def test_clean_refuses_while_work_may_be_needed(tmp_path: Path, state: dict[str, object]) -> None:
    store = published_store(tmp_path / "out", **state)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="kept for the next run"):
        clean(store)
    assert store.list(".work")


def test_clean_refuses_what_no_job_wrote(tmp_path: Path) -> None:
    write_clip(tmp_path / ".work" / "precious.mp4")
    with pytest.raises(SpecError, match="no job has written here"):
        clean(Store(str(tmp_path)))
    assert (tmp_path / ".work" / "precious.mp4").exists()


def test_clean_minds_the_plans_of_other_runs_too(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    write_plan(store, "20250101T000000-aaaa", ["/in/other_job.mp4"])
    with pytest.raises(SpecError, match="1 videos are left"):
        clean(store)


def test_an_output_url_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(SpecError) as caught:
        open_output("s3://me:hunter2@bucket/out", None)
    assert "hunter2" not in str(caught.value)


def test_what_is_older_than_an_age_goes_even_while_videos_are_left_but_not_counts_of_attempts(
    tmp_path: Path,
) -> None:
    store = published_store(tmp_path / "out", left=("/in/left.mp4",))
    store.put(".work/cd/new.json", b"{}")
    store.put(".work/attempts/run.json", b"{}")
    day_before_yesterday = time.time() - 2 * 86400
    for path in (".work/ab/abcd.json", ".work/attempts/run.json"):
        os.utime(tmp_path / "out" / path, (day_before_yesterday, day_before_yesterday))
    assert expire(store, seconds_of("3d")) == 0
    assert expire(store, seconds_of("24h")) == 1
    assert store.list(".work") == [".work/attempts/run.json", ".work/cd/new.json"]
    with hold_lease(store, "run"), pytest.raises(LeaseHeldError):
        expire(store, 0.0)


@pytest.mark.parametrize("age", ["7", "d", "-1d", "1.5h", "7 days", ""])
def test_an_age_that_is_none_is_refused(age: str) -> None:
    with pytest.raises(SpecError, match="12h or 7d"):
        seconds_of(age)
