"""The training loop: steps, moving average, checkpoints, held-out curve; what is trained is a `Task`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from operators.errors import TrainingError
from operators.training.checkpoint import load_checkpoint, save_checkpoint
from operators.training.optimizer import HybridOptimizer
from operators.training.schedule import STABLE, Schedule

EMA_DECAY = 0.995


class Task(Protocol):
    """A network with a loss. ``name`` names checkpoints; ``identity`` must be equal for a run to resume."""

    name: str
    identity: str
    network: nn.Module

    def loss(self, iteration: int) -> Tensor:
        """Training loss of one batch, drawn by ``iteration`` alone."""

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Held-out figures of ``network``."""


@dataclass(frozen=True)
class Budget:
    """How long one task trains: ``iterations``, or ``seconds`` of the clock; and how often it reports and
    saves, in seconds. ``rate`` multiplies the learning rates. Between points of the curve, a sign of life
    without held-out figures is given every ``breathe_every`` seconds."""

    iterations: int | None
    seconds: float | None
    report_every: float
    save_every: float
    rate: float = 1.0
    breathe_every: float = math.inf


@dataclass(frozen=True)
class Point:
    """One point of the curve: loss is the mean since the previous point; ``held_out`` as evaluated on the
    moving average, empty for a sign of life; ``total`` is None while the length of the run is open."""

    task: str
    iteration: int
    total: int | None
    seconds: float
    loss: float
    held_out: dict[str, float]


def fit(
    task: Task, budget: Budget, folder: Path, clock: Callable[[], float], report: Callable[[Point], None]
) -> tuple[nn.Module, list[Point]]:
    """Train to the end of the budget, resuming from ``folder`` if it holds a checkpoint of this task, and
    return the moving average of the weights and the whole curve.

    A run by iterations is a function of its seed on one device; a run by the clock equals the run by the
    number of iterations that it reports as ``total``. Raises TrainingError when the loss is no number, or
    the checkpoint belongs to another run, be it the same of another length.
    """
    run = _Run.start(task, budget)
    path = folder / f"{task.name}.checkpoint.pt"
    if path.exists():
        state = load_checkpoint(path, task.identity)
        if not run.is_as_long_as(state):
            raise TrainingError(
                f"{path} belongs to a run of another length; give the length it was begun with, "
                "another --out, or delete the file"
            )
        run.restore(state)
    begun = clock() - run.seconds
    reported = saved = breathed = run.seconds
    losses: list[Tensor] = []
    while not run.finished:
        losses.append(run.step())
        if not torch.isfinite(losses[-1]):
            raise TrainingError(
                f"{task.name}: the loss is not a number at iteration {run.iteration}; the last sound "
                f"checkpoint is {path}"
            )
        run.seconds = clock() - begun
        run.watch_the_clock()
        if run.finished or run.seconds - reported >= budget.report_every:
            loss = float(torch.stack(losses).mean())
            held_out = task.evaluate(run.average)
            run.points.append(
                Point(task.name, run.iteration, run.schedule.total, run.seconds, loss, held_out)
            )
            report(run.points[-1])
            losses, reported = [], clock() - begun
            # The time of an evaluation counts as training time: the budget is what the user waits.
            run.seconds = reported
        elif run.seconds - max(reported, breathed) >= budget.breathe_every:
            loss = float(torch.stack(losses).mean())
            report(Point(task.name, run.iteration, run.schedule.total, run.seconds, loss, {}))
            breathed = run.seconds
        if run.finished or run.seconds - saved >= budget.save_every:
            # A finite loss can have had a gradient that was not.
            if not all(bool(torch.isfinite(mean).all()) for mean in _tensors(run.average)):
                raise TrainingError(
                    f"{task.name}: weights are not numbers at iteration {run.iteration}; the last sound "
                    f"checkpoint is {path}"
                )
            save_checkpoint(path, task.identity, run.state())
            saved = run.seconds
    return run.average, run.points


class _Run:
    """Everything that changes while a task trains."""

    def __init__(self, task: Task, budget: Budget, schedule: Schedule) -> None:
        self.task, self.budget, self.schedule = task, budget, schedule
        self.optimizer = HybridOptimizer(task.network)
        self.average = copy.deepcopy(task.network).requires_grad_(False).eval()
        self.iteration, self.seconds = 0, 0.0
        self.points: list[Point] = []

    @classmethod
    def start(cls, task: Task, budget: Budget) -> _Run:
        known = budget.iterations is not None
        return cls(task, budget, Schedule.of_iterations(budget.iterations) if known else Schedule(None))

    @property
    def finished(self) -> bool:
        total = self.schedule.total
        return total is not None and self.iteration >= total

    def step(self) -> Tensor:
        self.task.network.train()
        loss = self.task.loss(self.iteration)
        loss.backward()
        self.optimizer.step(self.budget.rate * self.schedule.rate(self.iteration))
        self.iteration += 1
        # A young average would otherwise remember the start.
        decay = min(EMA_DECAY, self.iteration / (self.iteration + 10))
        with torch.no_grad():
            for mean, value in zip(_tensors(self.average), _tensors(self.task.network), strict=True):
                mean.lerp_(value, 1.0 - decay)
        return loss.detach()

    def watch_the_clock(self) -> None:
        budget = self.budget.seconds
        if self.schedule.stable is None and budget is not None and self.seconds >= STABLE * budget:
            self.schedule = self.schedule.fall_from(self.iteration)

    def state(self) -> dict[str, object]:
        return {
            "network": self.task.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "stable": self.schedule.stable,
            "length": self._length,
            "points": [asdict(point) for point in self.points],
        }

    @property
    def _length(self) -> list[float | None]:
        return [self.budget.iterations, self.budget.seconds]

    def is_as_long_as(self, state: dict[str, object]) -> bool:
        return state["length"] == self._length

    def restore(self, state: dict[str, object]) -> None:
        self.task.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.seconds = state["iteration"], state["seconds"]
        self.schedule = Schedule(state["stable"])
        self.points = [Point(**point) for point in state["points"]]


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return network.parameters()
