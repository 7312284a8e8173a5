"""Facts of sharing policies, and what plans, keys and users are told by them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from pipeline.job_keys import JobKeys
from pipeline.plan import plan_scenes, plan_video
from pipeline.settings import ConsistencySettings, JobSettings, Sharing
from pipeline.sharing_policies import (
    POLICIES,
    facts_of,
    needs_features,
    needs_motion,
    sharing_warnings,
)
from pipeline.units import units_of
from pipeline.work import VideoRef
from tests.pipeline.looks import index_with, still

DEPENDENT = {"sparse_causal", "chunk_first", "chunk_joint"}


def how(sharing: str, **facts: object) -> ConsistencySettings:
    return ConsistencySettings(sharing=sharing, **facts)  # type: ignore[arg-type]


def video_key(consistency: ConsistencySettings) -> str:
    settings = JobSettings("job", 7, ("in.mp4",), "out", consistency=consistency)
    return JobKeys(settings, "model", "cpu").video("source", "mp4")


def test_the_table_holds_what_settings_accept() -> None:
    assert set(POLICIES) == set(get_args(Sharing))
    assert all(facts.name == name for name, facts in POLICIES.items())


@pytest.mark.parametrize("sharing", POLICIES)
def test_a_warning_names_the_field_of_exactly_the_policies_that_depend_on_the_cut(sharing: str) -> None:
    warnings = sharing_warnings(how(sharing))
    assert len(warnings) == (sharing in DEPENDENT)
    assert all(text.startswith(f"consistency.sharing: {sharing} depends on how") for text in warnings)


@pytest.mark.parametrize("sharing", POLICIES)
def test_the_cut_into_chunks_enters_keys_exactly_where_it_changes_pictures(sharing: str) -> None:
    short, long = how(sharing, knots_per_chunk=1), how(sharing, knots_per_chunk=8)
    assert (video_key(short) != video_key(long)) == (sharing in DEPENDENT)


@pytest.mark.parametrize("field", ["merge", "fusion"])
def test_options_that_change_pictures_enter_keys(field: str) -> None:
    assert video_key(replace(how("knots"), **{field: 0.5})) != video_key(how("knots"))


def test_features_are_asked_for_by_matching_policies_and_by_merging() -> None:
    assert needs_features(how("propagate"))
    assert needs_features(how("knots", merge=0.5))
    assert not needs_features(how("knots", fusion=0.5))


def test_motion_is_asked_for_by_fusion_and_warped_noise() -> None:
    assert needs_motion(how("knots", fusion=0.5))
    assert needs_motion(how("knots", warp_noise=True))
    assert not needs_motion(how("correspondence"))


def test_under_first_frame_the_first_frame_of_each_scene_is_its_only_anchor() -> None:
    scenes = plan_scenes(index_with(still(90), (0, 40)), how("first_frame"))
    assert [scene.anchors for scene in scenes] == [(0,), (40,)]


@pytest.mark.parametrize("sharing", POLICIES)
def test_only_what_a_policy_reads_is_planned(sharing: str) -> None:
    consistency, index = how(sharing), index_with(still(90), (0, 40))
    restore = {"degradation": {"kind": "denoise", "noise": 0.1}, "solver": {"name": "dpir"}}
    settings = JobSettings(
        "job", 7, ("in.mp4",), "out", consistency=consistency, enhance=({"restore": restore},)
    )
    plan = plan_video(index, consistency, 1)
    units = units_of(JobKeys(settings, "model", "cpu"), VideoRef("in.mp4", "digest", "index"), plan)
    facts = facts_of(consistency)
    assert len(units.anchors) == (0 if facts.anchors == "none" else 2)
    assert bool(units.knots) == facts.knots
    assert all(bool(unit.anchors_key) == (facts.anchors != "none") for unit in units.chunks)
