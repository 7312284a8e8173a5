"""The whole graph on real clips: what comes out, what is not done twice, who is quarantined."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq
import pytest

from pipeline.cluster import Cluster
from pipeline.errors import SpecError
from pipeline.events import Event
from pipeline.graph import run_job
from pipeline.job_plan import plan_job
from pipeline.settings import EncodeSettings
from pipeline.video.nvenc import check_encoder
from pipeline.video.rgb import decode_rgb
from pipeline.video.verify import measure
from tests.pipeline.graph.jobs import identity_job, restore_job, run, stylize_job
from tests.pipeline.video.media import Clip, index_of, make_clip

pytestmark = pytest.mark.usefixtures("ray_here")


def test_a_reencoded_catalog_keeps_frames_times_and_audio_and_is_listed(tmp_path: Path) -> None:
    sources = tmp_path / "in"
    (sources / "deep").mkdir(parents=True)
    uneven = (0, 512, 1024, 2560, 3072, 3584, 5120, 5632, 6144, 7680, 9216)
    make_clip(sources / "deep" / "a.mp4", Clip(pts=uneven, audio="aac"))
    even = Clip(pts=range(0, 360, 40), time_base=Fraction(1, 1000), width=50, height=38)
    make_clip(sources / "b.mkv", even)
    events: list[Event] = []
    out = tmp_path / "out"
    summary = run(identity_job(str(sources / "**" / "*.m*"), out), events)
    assert (summary.done, summary.quarantined) == (2, 0)
    for name in ("deep/a", "b"):
        (source,) = sources.glob(f"{name}.*")
        (made,) = (out / "videos").glob(f"{name}.*")
        before, after = measure(str(source)), measure(str(made))
        seconds_before = [pts * before.time_base for pts in before.pts]
        assert [pts * after.time_base for pts in after.pts] == seconds_before
        assert after.decode_errors == 0
    assert sound(out / "videos" / "deep" / "a.mp4") == sound(sources / "deep" / "a.mp4")
    rows = pq.read_table(out / "manifests" / "videos.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["done", "done"]
    assert {row["frames"] for row in rows} == {11, 9}
    chunks = pq.read_table(out / "manifests" / "chunks.parquet").to_pylist()
    assert sum(row["frames"] for row in chunks) == 20
    plan = json.loads((out / "runs" / summary.run_id / "plan.json").read_text())
    assert sorted(video["frames"] for video in plan["videos"]) == [9, 11]
    assert {event.kind for event in events} >= {"phase", "chunk", "video"}


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_a_second_run_finds_everything_done_and_writes_no_video(sources: Path, tmp_path: Path) -> None:
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    first = run(job)
    stamp = (tmp_path / "out" / "videos" / "a.mp4").stat().st_mtime_ns
    second = run(job)
    assert (first.already_done, second.already_done) == (0, 1)
    assert second.chunks_done_before == second.chunks == first.chunks
    assert (tmp_path / "out" / "videos" / "a.mp4").stat().st_mtime_ns == stamp


def test_committed_chunks_are_not_recomputed_when_the_video_was_not_published(
    sources: Path, tmp_path: Path
) -> None:
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    first = run(job)
    shutil.rmtree(tmp_path / "out" / "videos")
    shutil.rmtree(tmp_path / "out" / "manifests")
    events: list[Event] = []
    second = run(job, events)
    assert second.chunks_done_before == second.chunks == first.chunks
    assert not [event for event in events if event.kind == "chunk" and event.message == "frames"]
    assert second.rows[0].output_sha256 == first.rows[0].output_sha256


def test_bad_videos_are_quarantined_with_a_reason_and_the_rest_is_published(
    sources: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(sources / "a.mp4", folder / "good.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 64)
    summary = run(identity_job(str(folder / "*.mp4"), tmp_path / "out"))
    codes = {Path(row.video_uri).name: (row.status, row.code) for row in summary.rows}
    assert codes == {
        "good.mp4": ("done", ""),
        "empty.mp4": ("quarantined", "empty"),
        "noise.mp4": ("quarantined", "not_a_video"),
    }
    assert [path.name for path in (tmp_path / "out" / "videos").iterdir()] == ["good.mp4"]
    assert all(row.error for row in summary.rows if row.status == "quarantined")


def test_only_quarantined_takes_up_what_was_refused_and_leaves_the_rest(
    sources: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(sources / "a.mp4", folder / "good.mp4")
    (folder / "bad.mp4").write_bytes(b"not yet uploaded")
    job = identity_job(str(folder / "*.mp4"), tmp_path / "out")
    assert run(job).quarantined == 1
    shutil.copy(sources / "a.mp4", folder / "bad.mp4")
    again = run_job(job, on_event=lambda event: None, only_quarantined=True)
    assert (again.videos, again.done, again.quarantined) == (1, 1, 0)
    rows = pq.read_table(tmp_path / "out" / "manifests" / "videos.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["done", "done"]


def test_equal_videos_under_several_names_are_computed_once_and_all_published(
    sources: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcde":
        shutil.copy(sources / "a.mp4", folder / f"{name}.mp4")
    events: list[Event] = []
    summary = run(identity_job(str(folder / "*.mp4"), tmp_path / "out"), events)
    assert summary.done == 5
    assert len({row.frames_md5 for row in summary.rows}) == 1
    computed = [event for event in events if event.kind == "chunk" and event.message == "frames"]
    assert len(computed) == summary.chunks // 5


def test_copies_are_the_sources_own_bytes_under_the_name_of_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.ts", Clip(pts=range(0, 14 * 512, 512), audio="aac", audio_rate=44_100))
    make_clip(folder / "plain.mkv", Clip(pts=range(0, 560, 40), time_base=Fraction(1, 1000)))
    shutil.move(folder / "plain.mkv", folder / "b.mp4")
    job = identity_job(str(folder / "*"), tmp_path / "out")
    job = replace(job, encode=replace(job.encode, codec="copy"))
    first = run(job)
    assert (first.done, first.quarantined, first.chunks) == (2, 0, 0), first.rows
    videos = tmp_path / "out" / "videos"
    assert sorted(path.name for path in videos.iterdir()) == ["a.ts", "b.mkv"]
    assert (videos / "a.ts").read_bytes() == (folder / "a.ts").read_bytes()
    assert (videos / "b.mkv").read_bytes() == (folder / "b.mp4").read_bytes()
    for row in first.rows:
        assert (row.output_sha256, row.dropped_streams) == (row.source_digest, ())
        assert row.metrics["verification"]["V3_pictures"] == "ok"
    stamps = [path.stat().st_mtime_ns for path in sorted(videos.iterdir())]
    assert run(job).already_done == 2
    assert [path.stat().st_mtime_ns for path in sorted(videos.iterdir())] == stamps
    shutil.rmtree(tmp_path / "out" / "manifests")
    assert run(job).done == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"enhance": ({"restore": {}},)}, "enhance"),
        ({"encode": EncodeSettings(codec="copy", container="mkv")}, "encode.container"),
    ],
)
def test_a_copy_that_should_also_change_something_is_refused(
    sources: Path, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    job = replace(identity_job(str(sources / "a.mp4"), tmp_path / "out"), encode=EncodeSettings(codec="copy"))
    for refuse in (run, plan_job):
        with pytest.raises(SpecError) as caught:
            refuse(replace(job, **changes))
        assert caught.value.field == field


def test_a_job_for_nvenc_stops_where_there_is_none_and_quarantines_nothing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        check_encoder("h264_nvenc")
        pytest.skip("this machine has NVENC")
    except SpecError:
        pass
    job = replace(
        identity_job(str(sources / "a.mp4"), tmp_path / "out"), encode=EncodeSettings(codec="h264_nvenc")
    )
    with pytest.raises(SpecError, match="use libx264"):
        run(job)
    assert not (tmp_path / "out").exists()
    # As on a cluster: the driver does not look, the worker does.
    monkeypatch.setattr("pipeline.graph.check_encode", lambda settings: None)
    with pytest.raises(SpecError, match="no usable NVENC") as caught:
        run(job)
    assert caught.value.field == "encode.codec"
    assert not rows_below(tmp_path / "out" / "manifests")


def test_the_row_of_a_reencoded_video_has_all_eight_checks_and_what_made_it(
    sources: Path, tmp_path: Path
) -> None:
    (row,) = run(identity_job(str(sources / "a.mp4"), tmp_path / "out")).rows
    checks = row.metrics["verification"]
    assert [name[:2] for name in checks] == [f"V{n}" for n in range(1, 9)]
    assert set(checks.values()) == {"ok", "not applicable: the codec is lossy"}
    assert row.metrics["luma_psnr_db"]["worst_segment"] > 30
    assert row.metrics["encoder"].startswith("libx264 64x48 yuv420p threads=1")
    assert row.versions["ffmpeg"]
    assert row.metrics["published"]["facts"]["picture"]["width"] == 64


def test_a_named_source_that_is_missing_is_quarantined(tmp_path: Path) -> None:
    summary = run(identity_job(str(tmp_path / "absent.mp4"), tmp_path / "out"))
    assert [(row.status, row.code) for row in summary.rows] == [("quarantined", "missing")]


def test_restoration_doubles_the_picture_and_keeps_the_frames(sources: Path, tmp_path: Path) -> None:
    job = restore_job(str(sources / "a.mp4"), tmp_path / "out")
    summary = run(replace(job, consistency=replace(job.consistency, sharing="none")))
    assert summary.rows[0].status == "done", summary.rows[0].error
    made = str(tmp_path / "out" / "videos" / "a.mp4")
    assert index_of(made).geometry.width == 128
    pictures = decode_rgb(made, index_of(made), range(14))
    assert pictures.shape == (14, 96, 128, 3)
    assert pictures.std() > 5


def test_an_unreadable_style_reference_is_refused_before_any_work(sources: Path, tmp_path: Path) -> None:
    job = stylize_job(str(sources / "a.mp4"), tmp_path / "out", tmp_path / "style.png")
    (tmp_path / "style.png").write_bytes(b"no picture")
    with pytest.raises(SpecError) as caught:
        run(job)
    assert caught.value.field == "enhance.0.stylize.reference"
    assert not (tmp_path / "out" / "manifests").exists()


def test_a_model_that_cannot_be_loaded_stops_the_job_and_quarantines_nothing(
    sources: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    (model / "unet").mkdir(parents=True)
    (model / "unet" / "config.json").write_text("{}")
    (model / "scheduler").mkdir()
    (model / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    job = stylize_job(str(sources / "a.mp4"), tmp_path / "out", tmp_path / "style.png", model=str(model))
    with pytest.raises(SpecError, match=r"vae/config\.json is missing"):
        run(job)
    assert not rows_below(tmp_path / "out" / "manifests")


def test_the_ray_of_a_run_is_big_enough_for_its_actors(ray_here: Cluster) -> None:
    assert ray_here.capacity >= 2


def rows_below(manifests: Path) -> list[Path]:
    """Row objects; what a lease leaves is none."""
    return [path for path in manifests.rglob("*.json") if "leases" not in path.parts]
