"""Faults as data: whom it hits, what happens, when, and how much may be computed once more for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from tests.faults.jobs import CHUNKS, Kind
from tests.support.fault_proxy import Kind as NetworkKind

ALL = os.environ.get("REELWEAVE_FAULTS") == "all"
"""Whether every stage meets every fault; by default a choice of them does."""

Victim = Literal["worker", "driver", "node"]


@dataclass(frozen=True)
class Kill:
    """SIGKILL when the ``nth`` step of this name begins or ends. ``worker`` is the process at that step, of a
    task or an actor; ``driver`` the one that runs the job; ``node`` the raylet above the worker, and all its
    workers with it. ``lost``: attempts at chunks that may come to nothing."""

    victim: Victim
    moment: Literal["begin", "end"]
    step: str
    lost: int
    kind: Kind = "identity"
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.victim} killed at {self.moment} of {self.step} {self.nth}, {self.kind}"


@dataclass(frozen=True)
class Network:
    """Storage answers so to the next ``times`` requests of ``method`` whose target contains ``target``."""

    what: NetworkKind
    method: str
    target: str
    times: int = 2

    def __str__(self) -> str:
        return f"{self.what} {self.method} {self.target}"


@dataclass(frozen=True)
class Torn:
    """What a power cut leaves of one committed object, where a disk lies about its writes: this share of its
    bytes, or all of them with one bit flipped (``kept`` -1). ``computed`` chunks are computed once more."""

    what: Literal["segment", "receipt", "index"]
    kept: float
    computed: int

    def __str__(self) -> str:
        return f"{self.what} {self.kept:g}"


@dataclass(frozen=True)
class Rival:
    """Another run takes the output over, and comes to its end, while this one stands still after its first
    event of this kind and message."""

    event: tuple[str, str]

    def __str__(self) -> str:
        return " ".join(self.event)


@dataclass(frozen=True)
class Clock:
    """The driver's clock is off by so many seconds in a run that is interrupted, and right in the next."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:+g} s"


#: Steps of a re-encoding and of an enhancement, and the attempts at chunks lost with a process there.
_IDENTITY = {"index": 0, "transcode": 1, "store": 1, "assemble": 0, "publish": 0}
_ENHANCED = {"anchors": 0, "knots": 0, "decode": 0, "enhance": 1, "encode": 1}

#: Enhanced chunks wait for encoders, which begin late on a busy machine: of clips this short all may.
_WAITING = CHUNKS - 1


def _ahead(kind: Kind) -> int:
    """Chunks that were begun and are not committed when driver or node die."""
    return 3 if kind == "identity" else _WAITING


CHOSEN_KILLS = (
    Kill("worker", "begin", "index", 0),
    Kill("worker", "begin", "transcode", 1, nth=3),
    Kill("worker", "end", "store", 0, nth=4),
    Kill("worker", "begin", "publish", 0),
    Kill("worker", "begin", "knots", 0, "enhanced"),
    Kill("driver", "end", "store", 3, nth=4),
    Kill("driver", "begin", "publish", 0),
    Kill("driver", "begin", "encode", _WAITING, "enhanced", nth=2),
    Kill("node", "begin", "transcode", 3, nth=3),
)
EVERY_KILL = tuple(
    Kill(victim, moment, step, _ahead(kind) if victim != "worker" else lost, kind, nth)
    for kind, steps in (("identity", _IDENTITY), ("enhanced", _ENHANCED))
    for step, lost in steps.items()
    for moment in ("begin", "end")
    for victim in ("worker", "driver", "node")
    for nth in (1, 2)
)

_STAGES = {
    "index": (("PUT", ".index"),),
    "chunk": (("PUT", ".mkv"), ("HEAD", ".mkv"), ("PUT", ".json")),
    "assemble": (("GET", ".mkv"),),
    "publish": (("PUT", "/videos/"), ("PUT", "/manifests/videos/"), ("DELETE", ".work")),
    "tables": (("GET", "list-type"), ("PUT", ".parquet")),
}
CHOSEN_NETWORK = (
    Network("slow_down", "PUT", ".mkv"),
    Network("reset", "PUT", "/videos/"),
    Network("lost", "PUT", ".json"),
    Network("truncated", "GET", ".mkv"),
    Network("slow", "PUT", ".index", times=1),
    Network("stale", "GET", "list-type", times=100),
)
EVERY_NETWORK = tuple(
    Network(what, method, target)
    for targets in _STAGES.values()
    for method, target in targets
    for what in ("slow_down", "error", "reset", "lost", "slow", "truncated", "damaged", "stale")
    if method == "GET" or what not in ("truncated", "damaged", "stale")
)

TORN = (
    Torn("segment", kept=0.5, computed=1),
    Torn("receipt", kept=0.5, computed=1),
    Torn("index", kept=0.0, computed=0),
    Torn("segment", kept=-1, computed=1),
    Torn("index", kept=-1, computed=0),
)
RIVALS = (Rival(("chunk", "frames")), Rival(("video", "")), Rival(("chunk", "indexing")))
CLOCKS = (Clock(86_400.0), Clock(-86_400.0))

KILLS = EVERY_KILL if ALL else CHOSEN_KILLS
NETWORK = EVERY_NETWORK if ALL else CHOSEN_NETWORK
