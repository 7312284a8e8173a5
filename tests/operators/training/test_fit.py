"""The training loop on least squares: where it ends, and that no stop, kill or damage changes the end."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from operators.errors import TrainingError
from operators.noise import keyed_normal
from operators.training.checkpoint import load_checkpoint, save_checkpoint
from operators.training.fit import Budget, Point, fit

ROWS, INPUTS, OUTPUTS = 64, 3, 2
X = keyed_normal((ROWS, INPUTS), "x")
TRUTH = torch.tensor([[0.9, -0.4, 0.2], [0.1, 0.7, -0.6]])
OFFSET = torch.tensor([0.2, -0.3])
Y = X @ TRUTH.T + OFFSET + 0.1 * keyed_normal((ROWS, OUTPUTS), "y")


class LeastSquares:
    """A `Task`: one linear layer on fixed data; a random half of it per batch, or all. ``fail`` is called
    with each iteration before its loss and may raise, or give a factor for the loss."""

    name = "squares"

    def __init__(
        self,
        identity: str = "mine",
        *,
        whole: bool = False,
        fail: Callable[[int], float | None] | None = None,
    ) -> None:
        self.identity = identity
        self.network: nn.Module = nn.Linear(INPUTS, OUTPUTS)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)
        self._whole, self._fail = whole, fail

    def loss(self, iteration: int) -> Tensor:
        factor = None if self._fail is None else self._fail(iteration)
        keep = keyed_normal((ROWS, 1), "batch", iteration) > (-9.0 if self._whole else 0.0)
        loss = ((self.network(X) - Y).square() * keep).mean()
        return loss if factor is None else loss * factor

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        return {"error": float((network(X) - Y).square().mean().detach())}


class Clock:
    """One second passes between any two looks at it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Stopped(Exception):  # noqa: N818
    """The process was told to end."""


def stop_at(iteration: int) -> Callable[[int], None]:
    def stop(now: int) -> None:
        if now == iteration:
            raise Stopped

    return stop


def run(
    folder: Path,
    task: LeastSquares | None = None,
    *,
    iterations: int | None = 60,
    seconds: float | None = None,
    save_every: float = 7,
) -> tuple[LeastSquares, nn.Module, list[Point]]:
    task = task or LeastSquares()
    budget = Budget(iterations, seconds, report_every=10, save_every=save_every)
    average, points = fit(task, budget, folder, Clock(), lambda point: None)
    return task, average, points


def equal(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def checkpoint(folder: Path) -> Path:
    return folder / "squares.checkpoint.pt"


def test_training_ends_at_the_closed_form_solution(tmp_path: Path) -> None:
    task, average, points = run(tmp_path, LeastSquares(whole=True), iterations=700)
    design = torch.cat([X, torch.ones(ROWS, 1)], 1).double()
    solution = torch.linalg.lstsq(design, Y.double()).solution.float()
    for network in (task.network, average):
        torch.testing.assert_close(network.weight.detach(), solution[:INPUTS].T, atol=5e-3, rtol=0)
        torch.testing.assert_close(network.bias.detach(), solution[INPUTS], atol=5e-3, rtol=0)
    best = float((design.float() @ solution - Y).square().mean())
    assert points[-1].held_out["error"] == pytest.approx(best, rel=1e-2)
    assert points[-1].loss == pytest.approx(best, rel=1e-2)


def test_every_report_is_a_point_of_the_curve_in_order(tmp_path: Path) -> None:
    heard: list[Point] = []
    budget = Budget(60, None, report_every=10, save_every=7)
    _, points = fit(LeastSquares(), budget, tmp_path, Clock(), heard.append)
    assert heard == points
    assert [p.iteration for p in points] == sorted({p.iteration for p in points})
    assert (points[-1].iteration, points[-1].total, points[-1].task) == (60, 60, "squares")
    assert len(points) > 3


def test_equal_runs_give_equal_bits_and_the_average_is_not_trained_on(tmp_path: Path) -> None:
    one, one_average, _ = run(tmp_path / "one")
    two, two_average, _ = run(tmp_path / "two")
    assert equal(one.network, two.network)
    assert equal(one_average, two_average)
    assert not equal(one.network, one_average)
    assert not any(weight.requires_grad for weight in one_average.parameters())


@pytest.mark.parametrize("stop", [8, 23, 59])
def test_a_stopped_and_resumed_run_ends_at_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole, whole_average, _ = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", LeastSquares(fail=stop_at(stop)))
    saved = load_checkpoint(checkpoint(tmp_path / "parts"), "mine")["iteration"]
    assert 0 < saved <= stop
    begun: list[int] = []
    resumed, average, _ = run(tmp_path / "parts", LeastSquares(fail=begun.append))
    assert begun == list(range(saved, 60))
    assert equal(resumed.network, whole.network)
    assert equal(average, whole_average)


def test_a_run_stopped_before_its_first_checkpoint_starts_over(tmp_path: Path) -> None:
    whole, _, _ = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", LeastSquares(fail=stop_at(2)))
    assert not checkpoint(tmp_path / "parts").exists()
    assert equal(run(tmp_path / "parts")[0].network, whole.network)


def test_points_and_time_survive_a_stop(tmp_path: Path) -> None:
    _, _, uninterrupted = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", LeastSquares(fail=stop_at(40)))
    state = load_checkpoint(checkpoint(tmp_path / "parts"), "mine")
    before = [p for p in uninterrupted if p.iteration <= state["iteration"]]
    assert len(before) >= 2
    _, _, points = run(tmp_path / "parts")
    assert points[: len(before)] == before
    assert points[-1].held_out == uninterrupted[-1].held_out
    assert points[-1].seconds == pytest.approx(uninterrupted[-1].seconds, abs=5)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    _, average, points = run(tmp_path)
    before = checkpoint(tmp_path).read_bytes()
    _, again, same = run(tmp_path, LeastSquares(fail=stop_at(60)))
    assert equal(average, again)
    assert same == points
    assert checkpoint(tmp_path).read_bytes() == before


def test_a_run_by_the_clock_equals_the_run_by_the_iterations_it_reports(tmp_path: Path) -> None:
    timed, timed_average, points = run(tmp_path / "clock", iterations=None, seconds=90)
    total = points[-1].total
    assert points[0].total is None
    assert total == points[-1].iteration > 40
    assert points[-1].seconds == pytest.approx(90, abs=8)
    counted, counted_average, _ = run(tmp_path / "count", iterations=total)
    assert equal(timed.network, counted.network)
    assert equal(timed_average, counted_average)


@pytest.mark.parametrize("stop", [30, 78])
def test_a_run_by_the_clock_goes_on_after_a_stop_in_either_phase(tmp_path: Path, stop: int) -> None:
    with pytest.raises(Stopped):
        run(tmp_path / "parts", LeastSquares(fail=stop_at(stop)), iterations=None, seconds=90)
    fell = load_checkpoint(checkpoint(tmp_path / "parts"), "mine")["stable"] is not None
    assert fell == (stop == 78)
    resumed, _, points = run(tmp_path / "parts", iterations=None, seconds=90)
    total = points[-1].total
    assert total == points[-1].iteration
    assert equal(resumed.network, run(tmp_path / "count", iterations=total)[0].network)


@pytest.mark.parametrize(
    ("first", "then"), [((60, None), (61, None)), ((None, 90.0), (60, None)), ((60, None), (None, 90.0))]
)
def test_a_checkpoint_of_another_length_is_refused(
    tmp_path: Path, first: tuple[int | None, float | None], then: tuple[int | None, float | None]
) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, LeastSquares(fail=stop_at(20)), iterations=first[0], seconds=first[1])
    with pytest.raises(TrainingError, match=r"squares\.checkpoint\.pt.*another length"):
        run(tmp_path, iterations=then[0], seconds=then[1])


@pytest.mark.parametrize("factor", [float("nan"), float("inf")], ids=str)
def test_a_loss_that_is_no_number_ends_the_run_and_leaves_a_sound_checkpoint(
    tmp_path: Path, factor: float
) -> None:
    whole, whole_average, _ = run(tmp_path / "whole")

    def spoil(iteration: int) -> float | None:
        return factor if iteration == 33 else None

    with pytest.raises(TrainingError, match=r"loss is not a number at iteration 34.*checkpoint\.pt"):
        run(tmp_path / "parts", LeastSquares(fail=spoil))
    resumed, average, _ = run(tmp_path / "parts")
    assert equal(resumed.network, whole.network)
    assert equal(average, whole_average)


def test_a_gradient_that_is_no_number_is_never_saved(tmp_path: Path) -> None:
    class Root(LeastSquares):
        def loss(self, iteration: int) -> Tensor:
            loss = super().loss(iteration)
            # The root of zero is zero; its slope is not finite.
            return loss + (self.network.bias.sum() * 0).sqrt() if iteration == 20 else loss

    with pytest.raises(TrainingError, match="not"):
        run(tmp_path, Root(), save_every=0)
    state = load_checkpoint(checkpoint(tmp_path), "mine")
    assert state["iteration"] == 20
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state["network"].values())


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(TrainingError, match=r"squares\.checkpoint\.pt belongs to a run with other"):
        run(tmp_path, LeastSquares("another"))


def damage_none(content: bytes) -> bytes:
    return b""


def damage_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_head(content: bytes) -> bytes:
    return b"\xff" * 600 + content[600:]


def damage_all(content: bytes) -> bytes:
    return b"no checkpoint at all"


@pytest.mark.parametrize("damage", [damage_none, damage_half, damage_head, damage_all])
def test_a_damaged_checkpoint_is_refused_by_name_in_one_line(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    run(tmp_path)
    path = checkpoint(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TrainingError, match=r"squares\.checkpoint\.pt is no readable checkpoint") as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)


def test_bits_flipped_anywhere_never_end_in_another_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint.pt"
    save_checkpoint(path, "mine", {"network": {"w": torch.zeros(2)}, "points": [{"loss": 1.0}]})
    sound = path.read_bytes()
    refused = 0
    for at in range(0, 500, 3):
        content = bytearray(sound)
        content[at] ^= 0x84
        path.write_bytes(content)
        try:
            load_checkpoint(path, "mine")
        except TrainingError:
            refused += 1
    assert refused > 50


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, sprung = tmp_path / "a.checkpoint.pt", tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(sprung), "w")

    torch.save({"identity": "mine", "state": Trap()}, path)
    with pytest.raises(TrainingError, match="no readable checkpoint"):
        load_checkpoint(path, "mine")
    assert not sprung.exists()


def test_a_save_that_breaks_off_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint.pt"
    save_checkpoint(path, "mine", {"value": torch.ones(3)})
    # What cannot be pickled breaks off after the file was begun, as a full disk does.
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, "mine", {"value": torch.zeros(3), "code": lambda: None})
    assert torch.equal(load_checkpoint(path, "mine")["value"], torch.ones(3))


def test_what_a_kill_during_a_save_leaves_behind_does_not_matter(tmp_path: Path) -> None:
    whole, _, _ = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", LeastSquares(fail=stop_at(30)))
    path = checkpoint(tmp_path / "parts")
    path.with_suffix(".part").write_bytes(path.read_bytes()[:900])
    assert equal(run(tmp_path / "parts")[0].network, whole.network)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_a_task_is_not_changed_by_its_evaluation_of_the_average(tmp_path: Path) -> None:
    """Reports at other times give the same weights."""
    often = Budget(40, None, report_every=0, save_every=1000)
    seldom = Budget(40, None, report_every=1000, save_every=1000)
    one, two = LeastSquares(), copy.deepcopy(LeastSquares())
    _, many = fit(one, often, tmp_path / "often", Clock(), lambda point: None)
    _, few = fit(two, seldom, tmp_path / "seldom", Clock(), lambda point: None)
    assert (len(many), len(few)) == (40, 1)
    assert equal(one.network, two.network)


def test_signs_of_life_come_between_points_and_change_nothing(tmp_path: Path) -> None:
    budget = Budget(60, None, report_every=20, save_every=7, breathe_every=5)
    heard: list[Point] = []
    average, points = fit(LeastSquares(), budget, tmp_path / "a", Clock(), heard.append)
    signs = [point for point in heard if not point.held_out]
    assert [point for point in heard if point.held_out] == points
    assert len(signs) > len(points) > 1
    assert all(a.iteration < b.iteration for a, b in itertools.pairwise(signs))
    assert equal(average, run(tmp_path / "b")[1])
