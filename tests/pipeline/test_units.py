"""Units of work: every knot is made once, under a key that does not know its company."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.commit import Receipt
from pipeline.job_keys import JobKeys
from pipeline.plan import VideoPlan, plan_video
from pipeline.settings import ConsistencySettings, JobSettings
from pipeline.units import Units, knot_group, manifest_rows, missing_references, units_of, unlisted_rows
from pipeline.work import UnitTask, VideoRef
from tests.pipeline.graph.jobs import stylize_item
from tests.pipeline.looks import index_with, looks_of

VIDEO = VideoRef("a.mp4", "digest", "index")
PACE = looks_of([100] * 200, [2] * 80 + [20] * 120)


def planned(**consistency: object) -> tuple[VideoPlan, Units]:
    how = ConsistencySettings(**consistency)  # type: ignore[arg-type]
    job = JobSettings("test", 7, ("a.mp4",), "out", enhance=(stylize_item("style.png"),), consistency=how)
    plan = plan_video(index_with(PACE, (0, 90)), how, 1)
    return plan, units_of(JobKeys(job, "model", "cpu", ("style",)), VIDEO, plan)


def made(groups: tuple[UnitTask, ...]) -> list[tuple[int, str]]:
    return [pair for unit in groups for pair in unit.makes]


THREES = planned(knots_per_chunk=3)[1]


def test_groups_hold_every_knot_that_is_no_anchor_once_within_the_span_of_their_chunk() -> None:
    plan, units = planned()
    knots = [k for scene in plan.scenes for k in scene.knots if k not in scene.anchors]
    assert [knot for knot, _ in made(units.knots)] == knots
    for unit in units.knots:
        chunk = plan.chunks[unit.number]
        assert all(chunk.first <= ordinal < chunk.last for ordinal in unit.ordinals)
        assert unit.ordinals == tuple(knot for knot, _ in unit.makes)
        assert unit.scene == chunk.scene


def test_the_keys_of_knots_do_not_depend_on_their_group_and_those_of_groups_do() -> None:
    (_, whole), (_, single) = planned(), planned(knots_per_chunk=1)
    assert made(whole.knots) == made(single.knots)
    assert len(single.knots) > len(whole.knots)
    assert len({unit.key for unit in (*whole.knots, *single.knots)}) > len(single.knots)


@given(st.data())
def test_only_what_chunks_lack_is_made_again(data: st.DataObject) -> None:
    units = THREES
    left = data.draw(st.lists(st.sampled_from(units.chunks), unique=True))
    keys = [unit.key for unit in units.anchors] + [key for _, key in made(units.knots)]
    done = data.draw(st.sets(st.sampled_from(keys)))
    missing = missing_references(units, left, done.__contains__)
    made_now = {unit.key for unit in missing if unit.level == "anchors"} | {key for _, key in made(missing)}
    needed = {unit.anchors_key for unit in left} | {key for unit in left for _, key in unit.knot_keys}
    assert made_now == needed - done
    assert [unit.level for unit in missing] == sorted(unit.level for unit in missing)
    assert all(unit.ordinals for unit in missing)


def test_a_chunk_reads_the_knots_around_it_and_the_anchors_of_its_scene() -> None:
    plan, units = planned(knots_per_chunk=2)
    anchors = {unit.scene: unit for unit in units.anchors}
    for unit, chunk in zip(units.chunks, plan.chunks, strict=True):
        at_hand = {knot for knot, _ in unit.knot_keys} | set(anchors[unit.scene].ordinals)
        assert set(chunk.knots) <= at_hand
        assert unit.anchors_key == anchors[unit.scene].key


def test_policies_that_read_no_knots_make_none() -> None:
    _, alone = planned(sharing="none")
    assert (alone.anchors, alone.knots) == ((), ())
    _, anchored = planned(sharing="anchors")
    assert anchored.knots == ()
    assert len(anchored.anchors) == 2
    assert all(unit.knot_keys == () for unit in anchored.chunks)


def test_units_survive_their_way_to_a_worker() -> None:
    _, units = planned()
    for unit in (*units.anchors, *units.knots, *units.chunks):
        assert UnitTask.from_json(unit.to_json()) == unit


def test_every_committed_thing_gets_a_row_and_a_group_shares_its_time() -> None:
    _, units = planned()
    row = {"attempts": 2, "node": "n", "seconds": 6.0}
    group = units.knots[0]
    rows = manifest_rows(group, row)
    assert [(r.key, r.level, r.first, r.frames) for r in rows] == [
        (key, "knot", knot, 1) for knot, key in group.makes
    ]
    assert abs(sum(r.seconds for r in rows) - 6.0) < 0.01
    (chunk,) = manifest_rows(units.chunks[1], row)
    assert (chunk.level, chunk.frames, chunk.attempts) == ("chunk", len(units.chunks[1].ordinals), 2)
    assert chunk.metrics["knots"] == list(units.chunks[1].grid)
    (anchors,) = manifest_rows(units.anchors[0], row)
    assert anchors.metrics == {"anchors": list(units.anchors[0].ordinals)}


def test_how_knots_are_placed_is_part_of_every_key() -> None:
    (_, even), (_, adaptive) = planned(), planned(knots="adaptive")
    assert not {unit.key for unit in adaptive.chunks} & {unit.key for unit in even.chunks}
    assert planned()[1] == even


def receipt(key: str) -> Receipt:
    made = {"seconds": 2.5, "attempts": 2, "node": "n", "slices": 2, "memory_full": 1}
    return Receipt(key, "object", 1, "sha256", {"made": made})


def test_what_a_killed_run_committed_and_did_not_list_gets_the_rows_it_would_have_written() -> None:
    units = THREES
    told = {"seconds": 2.5, "attempts": 2, "node": "n", "slices": 2, "memory_full": 1}
    singly = [knot_group(unit, (pair,)) for unit in units.knots for pair in unit.makes]
    expected = [
        row for unit in (*units.anchors, *singly, *units.chunks) for row in manifest_rows(unit, told)
    ]
    assert unlisted_rows(units, frozenset(), receipt) == expected
    listed = {(row.video_uri, row.key) for row in expected[::2]}
    assert unlisted_rows(units, listed, receipt) == expected[1::2]
    assert unlisted_rows(units, frozenset(), lambda key: None) == []
