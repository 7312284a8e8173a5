"""When memory is full, fewer frames are computed at a time, and not a bit changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch

from pipeline.enhancer import Enhancer, within_memory
from pipeline.enhancer_config import FrameTask
from pipeline.errors import MemoryFullError
from pipeline.settings import ConsistencySettings
from pipeline.slices import Interval, MemoryFit, ThriftyEnhancer, intervals, joined
from tests.pipeline.test_enhancer import STYLIZE, clip, config, task


class SmallDevice(Enhancer):
    """An embedded model on a device that holds ``room`` frames, or knots, at a time."""

    room = 100
    tried: tuple[int, ...] = ()

    def _take(self, count: int) -> None:
        self.tried = (*self.tried, count)
        if count > self.room:
            raise torch.OutOfMemoryError("Tried to allocate more than there is")

    def knots(self, task: FrameTask, frames: np.ndarray, anchors: bytes | None) -> dict[int, bytes]:
        self._take(len(task.ordinals))
        return super().knots(task, frames, anchors)

    def chunk(
        self,
        task: FrameTask,
        frames: np.ndarray,
        grid: Sequence[int],
        anchors: bytes | None,
        knots: Mapping[int, bytes],
    ) -> np.ndarray:
        self._take(len(task.ordinals))
        return super().chunk(task, frames, grid, anchors, knots)


@pytest.fixture(scope="module")
def device() -> Iterator[SmallDevice]:
    item = {"stylize": {**STYLIZE["stylize"], "method": {**STYLIZE["stylize"]["method"], "steps": 2}}}
    first = SmallDevice(config(item))
    style = first.style(0, clip(1, 64, 64)[0][::-1])
    first.close()
    found = SmallDevice(config(item), {0: style})
    yield found
    found.close()


def test_a_chunk_that_does_not_fit_is_computed_in_halves_with_the_same_bits(device: SmallDevice) -> None:
    frames, thrifty = clip(13), ThriftyEnhancer(device, within_memory)
    anchors = thrifty.anchors(task(0, 12), frames[[0, 12]])
    device.room = 100
    knots, facts = thrifty.knots(task(4, 8), frames[[4, 8]], anchors)
    pictures, none = thrifty.chunk(task(*range(13)), frames, (0, 4, 8, 12), anchors, knots)
    assert (facts, none) == ({}, {})

    device.room, device.tried = 5, ()
    pressed, sliced = thrifty.chunk(task(*range(13)), frames, (0, 4, 8, 12), anchors, knots)
    assert np.array_equal(pressed, pictures)
    assert device.tried == (13, 4, 4, 5)
    assert sliced == {"slices": 3, "memory_full": 1}
    device.room, device.tried = 1, ()
    assert thrifty.knots(task(4, 8), frames[[4, 8]], anchors) == (knots, {"slices": 2, "memory_full": 1})
    assert device.tried == (2, 1, 1)


def test_what_fitted_is_remembered_and_one_interval_that_does_not_fit_is_an_error(
    device: SmallDevice,
) -> None:
    frames, thrifty = clip(13), ThriftyEnhancer(device, within_memory)
    device.room = 100
    anchors = thrifty.anchors(task(0, 12), frames[[0, 12]])
    knots, _ = thrifty.knots(task(4, 8), frames[[4, 8]], anchors)
    device.room = 9
    thrifty.chunk(task(*range(13)), frames, (0, 4, 8, 12), anchors, knots)
    device.tried = ()
    _, facts = thrifty.chunk(task(*range(13)), frames, (0, 4, 8, 12), anchors, knots)
    assert (device.tried, facts) == ((4, 4, 5), {"slices": 3, "memory_full": 0})
    device.room = 3
    with pytest.raises(MemoryFullError, match=r"knot_every") as caught:
        thrifty.chunk(task(*range(13)), frames, (0, 4, 8, 12), anchors, knots)
    assert caught.value.facts["code"] == "out_of_memory"


@pytest.mark.parametrize("sharing", ["chunk_first", "chunk_joint", "sparse_causal"])
def test_a_chunk_whose_result_depends_on_its_frames_is_not_cut(sharing: str) -> None:
    how = ConsistencySettings(sharing=sharing, knot_every=4)  # type: ignore[arg-type]
    device = SmallDevice(config(STYLIZE, consistency=how))
    device.room = 5
    with pytest.raises(MemoryFullError):
        ThriftyEnhancer(device, within_memory).chunk(task(*range(9)), clip(9), (0, 4, 8), None, {})
    device.close()
    assert device.tried == (9,)


def test_slices_are_whole_knot_intervals() -> None:
    found = intervals(range(10, 19), (10, 14, 18))
    assert found == [Interval((10, 11, 12, 13), (10, 14)), Interval((14, 15, 16, 17, 18), (14, 18))]
    assert joined(found) == Interval(tuple(range(10, 19)), (10, 14, 18))
    assert intervals(range(3), (0,)) == [Interval((0, 1, 2), (0,))]


def test_only_what_was_refused_is_tried_again() -> None:
    done: list[Sequence[int]] = []

    def work(some: Sequence[int]) -> int:
        if len(some) > 1 and 5 in some:
            raise MemoryFullError("full")
        done.append(some)
        return sum(some)

    sliced = MemoryFit().run("kind", tuple(range(8)), work)
    assert sum(sliced.results) == sum(range(8))
    assert sorted(number for some in done for number in some) == list(range(8)), "nothing was computed twice"
    assert sliced.refused == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_full_memory_has_one_name_whoever_ran_out_of_it(error: Exception) -> None:
    with pytest.raises(MemoryFullError) as caught:
        within_memory(failing(error))
    assert caught.value.__context__ is None, "a traceback would keep the tensors"


def test_an_allocation_that_cannot_be_had_is_full_memory() -> None:
    with pytest.raises(MemoryFullError):
        within_memory(lambda: torch.empty(1 << 60, dtype=torch.uint8))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        within_memory(failing(RuntimeError("shapes do not match")))


def failing(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work
