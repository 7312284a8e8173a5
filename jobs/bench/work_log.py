"""What the workers of a run do, written down by themselves: each step and each commit they begin and end.

The pipeline knows nothing of this: the steps that `pipeline.graph` hands to Ray are wrapped for as long as a
block lasts, and travel to the workers by value. The counts of `bench soak` rest on it, and tests put faults
where the log would be.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import ray

from pipeline import assembly, graph
from pipeline.commit import ChunkStore, Receipt, publish_video
from pipeline.steps import assemble, enhance
from pipeline.steps.context import TaskContext
from pipeline.work import UnitTask

Moment = Literal["begin", "end"]


@dataclass(frozen=True)
class Seen:
    """One moment of one step. ``step``: index, decode, anchors, knots, enhance, encode, transcode, assemble,
    publish, or ``store`` for a commit into the chunk store. ``found``: at a begin, whether the result was
    there already."""

    moment: Moment
    step: str
    key: str
    pid: int
    found: bool = False


Watch = Callable[[Seen], None]


@dataclass(frozen=True)
class WorkLog:
    """A file of moments, one line each, that any number of processes may append to."""

    path: Path

    def __call__(self, seen: Seen) -> None:
        line = json.dumps(asdict(seen)) + "\n"
        with open(self.path, "ab", buffering=0) as file:
            file.write(line.encode())

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def exists(self) -> bool:
        """Whether anything has been written."""
        return self.size > 0

    def read(self, after: int = 0) -> list[Seen]:
        """Everything so far, from byte ``after`` on, in the order in which it was written."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes()[after:].rpartition(b"\n")[0].splitlines()
        return [Seen(**json.loads(line)) for line in lines]


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Within, workers of runs of this process call ``watch`` at each `Seen`; it must pickle."""
    with contextlib.ExitStack() as undo:
        for name in ("index", "decode", "transcode", "encode"):
            attribute = f"{name}_source" if name == "index" else f"{name}_unit"
            step = _watched_step(watch, name, getattr(graph, attribute))
            undo.enter_context(mock.patch.object(graph, attribute, step))
        undo.enter_context(mock.patch.object(graph, "EnhanceUnits", _watched_actor(watch)))
        undo.enter_context(mock.patch.object(assembly, "_ASSEMBLE", _watched_assembly(watch)))
        yield


def _watched_step(watch: Watch, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def step(row: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        found = "task" in row and context.chunks.lookup(row["key"]) is not None
        with _told(watch, name, row["key"], found):
            result: dict[str, Any] = work(row, context)
            return result

    step.__name__ = work.__name__
    return step


def _watched_actor(watch: Watch) -> type:
    class EnhanceUnits(enhance.EnhanceUnits):
        def _enhance(self, row: dict[str, Any]) -> dict[str, Any]:
            level = UnitTask.from_json(row["task"]).level
            with _told(watch, "enhance" if level == "chunk" else level, row["key"]):
                return super()._enhance(row)

    return EnhanceUnits


def _watched_assembly(watch: Watch) -> Any:
    def assemble_video(video: Any, *others: Any) -> Any:
        with _told(watch, "assemble", video.video_key):
            return assemble.assemble_video(video, *others)

    return ray.remote(num_cpus=1, max_retries=-1)(assemble_video)


@contextlib.contextmanager
def _told(watch: Watch, step: str, key: str, found: bool = False) -> Iterator[None]:
    """In the worker: around a step, and around what it commits."""
    tell = functools.partial(Seen, pid=os.getpid())
    commit = ChunkStore.commit

    def watched_commit(self: ChunkStore, key: str, *args: Any) -> Receipt:
        watch(tell("begin", "store", key, found=self.lookup(key) is not None))
        receipt = commit(self, key, *args)
        watch(tell("end", "store", key))
        return receipt

    def watched_publish(*args: Any) -> Any:
        watch(tell("begin", "publish", key))
        row = publish_video(*args)
        watch(tell("end", "publish", key))
        return row

    watch(tell("begin", step, key, found=found))
    with (
        mock.patch.object(ChunkStore, "commit", watched_commit),
        mock.patch.object(assemble, "publish_video", watched_publish),
    ):
        yield
    watch(tell("end", step, key))


def count_work(seen: Sequence[Seen]) -> dict[str, int]:
    """``chunks``: distinct ones that were begun; ``lost``: attempts at them that came to nothing.

    ``results``: distinct ones that were committed, references and indices among them. ``again``: begun after
    another attempt had committed the result; ``beside``: begun before, by two attempts at once.
    ``published``: videos put in place.
    """
    chunks = [one.key for one in seen if _begins_chunk(one)]
    begun: dict[int, int] = {}
    committed: dict[str, int] = {}
    again = beside = 0
    for at, one in enumerate(seen):
        if one.step != "store":
            if one.moment == "begin":
                begun[one.pid] = at
        elif one.moment == "begin":
            late = one.key in committed and committed[one.key] < begun[one.pid]
            again += late
            beside += one.found and not late
        else:
            committed.setdefault(one.key, at)
    return {
        "chunks": len(set(chunks)),
        "lost": len(chunks) - len(set(chunks)),
        "results": len(committed),
        "again": again,
        "beside": beside,
        "published": sum((one.moment, one.step) == ("end", "publish") for one in seen),
    }


def _begins_chunk(one: Seen) -> bool:
    """Whether a chunk is computed from here on; where its result is there, the step ends at once."""
    return one.moment == "begin" and one.step in ("transcode", "enhance") and not one.found
