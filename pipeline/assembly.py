"""Assemblies in flight: a few at a time, so that they never crowd out decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from pipeline.failures import APART, run_error
from pipeline.manifest import VideoRow
from pipeline.steps.assemble import assemble_video
from pipeline.steps.context import TaskContext
from pipeline.video_jobs import VideoJob
from pipeline.work import Failure

_IN_FLIGHT = 4
_ASSEMBLE = ray.remote(num_cpus=1, max_retries=-1)(assemble_video)


class Assembly:
    """``publish`` is told how each video ended."""

    def __init__(self, context: TaskContext, publish: Callable[[VideoJob, VideoRow | Failure], None]) -> None:
        self._context = context
        self._publish = publish
        self._queue: list[VideoJob] = []
        self._suspected: list[VideoJob] = []
        self._running: dict[Any, VideoJob] = {}

    def start(self, video: VideoJob) -> None:
        """Queue a video whose segments are all committed."""
        self._queue.append(video)
        self._launch()

    def collect(self, *, wait: bool) -> None:
        """Book what has ended; ``wait`` until everything has: suspects (`pipeline.attempt_book`) one at a
        time in the end. Raises RunError when Ray gives up."""
        while self._running or self._queue or (wait and self._suspected):
            self._launch()
            if not self._running:
                self._begin(self._suspected.pop(0), apart=True)
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=None if wait else 0)
            if not ready:
                return
            for reference in ready:
                video, outcome = self._running.pop(reference), _outcome(reference)
                if isinstance(outcome, Failure) and outcome.code == APART:
                    self._suspected.append(video)
                else:
                    self._publish(video, outcome)

    def _launch(self) -> None:
        while self._queue and len(self._running) < _IN_FLIGHT:
            self._begin(self._queue.pop(0))

    def _begin(self, video: VideoJob, *, apart: bool = False) -> None:
        reference = _ASSEMBLE.remote(video.task, video.row, self._context, apart)
        self._running[reference] = video


def _outcome(reference: Any) -> VideoRow | Failure:
    try:
        outcome: VideoRow | Failure = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise run_error(error) from error
    return outcome
