"""Keys and units of scenes that have settings of their own: what they change, and what they leave alone."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SpecError
from pipeline.job_keys import JobKeys
from pipeline.job_plan import plan_job
from pipeline.plan import plan_video
from pipeline.scene_overrides import absent_scenes, names, own_scenes
from pipeline.settings import ConsistencySettings, EncodeSettings, JobSettings, SceneOverride
from pipeline.units import Units, units_of
from pipeline.video.rgb import decode_rgb
from pipeline.work import UnitTask, VideoRef
from tests.pipeline.direct import run_directly
from tests.pipeline.films import write_film
from tests.pipeline.graph.jobs import stylize_item, write_style
from tests.pipeline.looks import index_with, looks_of
from tests.pipeline.test_enhancer import clip
from tests.pipeline.video.media import Clip, index_of, make_clip

URI = "/in/1921/a film.mp4"
VIDEO = VideoRef(URI, "digest", "index")
HOW = ConsistencySettings(knot_every=8, knots_per_chunk=2)
PLAN = plan_video(index_with(looks_of([100] * 90, [2] * 90), (0, 30, 60)), HOW, 1)


def weaker(strength: float = 0.3) -> tuple[dict[str, Any], ...]:
    item = copy.deepcopy(stylize_item("style.png"))
    item["stylize"]["strength"] = strength
    return (item,)


def settings(*scenes: SceneOverride) -> JobSettings:
    items = (stylize_item("style.png"),)
    return JobSettings("test", 7, (URI,), "out", enhance=items, consistency=HOW, scenes=scenes)


def keys(*scenes: SceneOverride) -> JobKeys:
    return JobKeys(settings(*scenes), "model", "cpu", ("style",)).of_video(URI)


def units(*scenes: SceneOverride) -> Units:
    return units_of(keys(*scenes), VIDEO, PLAN)


def by_scene(found: Units, scene: int) -> list[UnitTask]:
    return [unit for unit in (*found.anchors, *found.knots, *found.chunks) if unit.scene == scene]


def test_an_override_of_one_scene_changes_the_units_of_that_scene_alone() -> None:
    plain, own = units(), units(SceneOverride("*.mp4", (1,), weaker()))
    assert len(plain.chunks) == len(own.chunks)
    for scene in (0, 2):
        assert by_scene(own, scene) == by_scene(plain, scene)
    for mine, other in zip(by_scene(own, 1), by_scene(plain, 1), strict=True):
        assert mine.key != other.key
        assert {key for _, key in mine.makes}.isdisjoint(key for _, key in other.makes)
        assert json.loads(mine.enhance) == [[0, weaker()[0]]]
        assert other.enhance == ""


def test_changing_an_override_of_one_scene_leaves_the_others_keys_and_changes_the_videos() -> None:
    first = (SceneOverride("*.mp4", (1,), weaker(0.3)), SceneOverride("*.mp4", (2,), weaker(0.5)))
    second = (first[0], SceneOverride("*.mp4", (2,), weaker(0.4)))
    one, other = units(*first), units(*second)
    assert [u.key for u in by_scene(one, 1)] == [u.key for u in by_scene(other, 1)]
    assert {u.key for u in by_scene(one, 2)}.isdisjoint(u.key for u in by_scene(other, 2))
    assert keys(*first).video("digest", "mp4") != keys(*second).video("digest", "mp4")
    assert keys(*first).spec_digest() != keys(*second).spec_digest()


def test_a_scene_has_the_keys_of_a_job_that_does_the_same_to_all() -> None:
    whole = JobKeys(replace(settings(), enhance=weaker()), "model", "cpu", ("style",)).of_video(URI)
    alike = units_of(whole, VIDEO, PLAN)
    own = units(SceneOverride("*.mp4", (1,), weaker()))
    assert [u.key for u in by_scene(own, 1)] == [u.key for u in by_scene(alike, 1)]


def test_overrides_of_other_videos_change_nothing() -> None:
    other = SceneOverride("other.mp4", None, weaker())
    assert units(other) == units()
    assert keys(other).video("digest", "mp4") == keys().video("digest", "mp4")


def test_of_two_entries_for_a_scene_the_later_one_counts_alone() -> None:
    entries = (SceneOverride("*", None, weaker(0.3)), SceneOverride("*.mp4", (2,), weaker(0.4)))
    found = units(*entries)
    strengths = [json.loads(u.enhance)[0][1]["stylize"]["strength"] for u in found.anchors]
    assert strengths == [0.3, 0.3, 0.4]


@pytest.mark.parametrize(
    ("pattern", "uri", "fits"),
    [
        ("*.mp4", URI, True),
        ("1921/*.mp4", URI, True),
        ("1922/*.mp4", URI, False),
        ("a film.mp4", "s3://bucket/deep/a film.mp4", True),
        ("s3://bucket/*.mp4", "s3://bucket/a.mp4", True),
        ("film.mp4", URI, False),
        ("*", "s3://bucket/x", True),
    ],
)
def test_patterns_fit_the_end_of_a_path(pattern: str, uri: str, *, fits: bool) -> None:
    assert names(SceneOverride(pattern, None, ()), uri) is fits


def test_scenes_that_a_video_does_not_have_are_told() -> None:
    entry = SceneOverride("*", (0, 7, 9), weaker())
    assert absent_scenes(own_scenes((entry,), URI), 3) == ("scenes.0 names scene 7, 9; the last one is 2",)
    assert absent_scenes(own_scenes((entry,), URI), 10) == ()


def job_on_disk(folder: Path, *scenes: SceneOverride) -> JobSettings:
    source = write_film(folder / "film.mkv", clip(5))
    item = stylize_item(str(write_style(folder / "style.png")))
    return replace(settings(*scenes), source=(source,), output=str(folder / "out"), enhance=(item,))


def test_plans_refuse_entries_without_a_video_and_warn_of_scenes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="fits no source of the job") as caught:
        plan_job(job_on_disk(tmp_path, SceneOverride("other.mkv", None, weaker())))
    assert caught.value.field == "scenes.0.video"
    plan = plan_job(job_on_disk(tmp_path, SceneOverride("film.mkv", (4,), weaker())))
    (warning,) = plan.warnings
    assert warning.endswith("film.mkv: scenes.0 names scene 4; the last one is 0")
    assert list(plan.scene_ranges.values()) == [[[0, 5]]]


def test_the_list_of_a_scene_is_checked_against_the_size_of_the_frames(tmp_path: Path) -> None:
    wide = copy.deepcopy(weaker()[0])
    blur = {"kind": "deblur", "kernel": "box", "side": 99, "noise": 0.0}
    items = ({"restore": {"degradation": blur, "solver": {"name": "dpir"}}}, wide)
    job = job_on_disk(tmp_path, SceneOverride("film.mkv", (0,), items))
    sharp = {**blur, "side": 3}
    plain = {"restore": {"degradation": sharp, "solver": {"name": "dpir"}}}
    (rejected,) = plan_job(replace(job, enhance=(plain, *job.enhance))).rejected
    assert rejected.code == "enhance_refused"
    assert np.all([word in rejected.error for word in ("side", "48x32")])


def test_a_published_video_changes_in_the_scene_of_its_entry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "a.mkv", Clip(pts=range(0, 20 * 512, 512), width=48, height=32, cuts=(10,)))
    solver = {"name": "dpir", "steps": 2}
    weak, strong = (
        ({"restore": {"degradation": {"kind": "denoise", "noise": noise}, "solver": solver}},)
        for noise in (0.05, 0.3)
    )
    plain = replace(
        settings(),
        source=(source,),
        output=str(tmp_path / "out"),
        enhance=weak,
        consistency=replace(HOW, sharing="none", knot_every=5, knots_per_chunk=1),
        encode=EncodeSettings(codec="ffv1", container="mkv"),
    )
    own = replace(plain, scenes=(SceneOverride("a.mkv", (1,), strong),))
    path = f"{plain.output}/videos/a.mkv"
    frames, computed = [], []
    for job in (plain, own):
        listed = len(list(Path(plain.output).rglob("*.mkv")))
        run_directly(job, monkeypatch)
        computed.append(len(list(Path(plain.output).rglob("*.mkv"))) - listed)
        frames.append(decode_rgb(path, index_of(path), range(20)))
    before, after = frames
    assert np.array_equal(before[:10], after[:10])
    assert not np.array_equal(before[10:], after[10:])
    # Two segments of each scene and the video; then the segments of the scene that has its own settings.
    assert computed == [5, 2]
