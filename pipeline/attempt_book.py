"""Which steps are to blame for what died under them: the counting, without Ray and storage.

An attempt that was begun and did not end was cut short by one of three deaths, and only the first says
something about the step:

    its process died         the node lives and the run goes on: a process works on one step at a time, so
                             nobody else's work can have done it. A death; ``limit`` of them, and it is given
                             up. Machines that are preempted end their processes first and themselves seconds
                             later: a death on a node that is gone by then is none
    its node went            preempted, unplugged, or killed by one of the steps that were at work on it
    the run ended            its driver was killed or lost its machine, perhaps by a step on that machine; by
                             no step that was at work on another

Of the last two nobody can tell the culprit from bystanders by looking at one loss. So one loss, or several,
quarantine nobody. They are told apart by what happens when they are parted:

    in company               other steps were at work on that machine. After ``limit`` such losses a step is
                             done apart: when all else of its phase is done, and one at a time
    alone                    nothing else was at work there
    given up                 after ``LOST_LIMIT`` losses without one success in between, at least ``limit`` of
                             them alone

A bystander of killers and preemptions is thus done as soon as it is done apart, and a step that takes its
node or the driver with it is stopped after ``LOST_LIMIT`` attempts, behind the others and not before them.
What looks like neither is a machine that is lost ten times running under the same one step: that step is
given up, since it cannot be told from a culprit, and `reelweave run --only quarantined` takes it up again.
Success clears a step's record. A run that ends in good order holds nothing against what was in flight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

LOST_LIMIT = 10

Verdict = Literal["go", "crashed", "draining", "apart", "store"]


@dataclass(frozen=True)
class Attempt:
    """What to do: ``verdict`` "go"; "crashed", this step is given up; "draining", the run is to end;
    "apart", not beside others; "store", the count could not be written (``why``). ``number`` of this
    attempt, from 1."""

    number: int
    verdict: Verdict = "go"
    why: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of one step: how often it was begun since it last succeeded, and what it is held against.

    ``deaths`` of its own process in earlier runs, ``died_on`` which nodes in this one; ``lost``: with node or
    driver in company, ``lost_alone``: alone there.
    ``open``: an attempt is at work, begun by the call ``by`` on ``node``; ``company``: others were at work
    there meanwhile; ``at_home``: it is the driver's machine.
    """

    begun: int = 0
    deaths: int = 0
    died_on: tuple[str, ...] = ()
    lost: int = 0
    lost_alone: int = 0
    open: bool = False
    by: str = ""
    node: str = ""
    company: bool = False
    at_home: bool = False

    def given_up(self, limit: int) -> bool:
        """Whether it is not to be tried again."""
        losses, deaths = self.lost + self.lost_alone, self.deaths + len(self.died_on)
        return deaths >= limit or (losses >= LOST_LIMIT and self.lost_alone >= limit)

    def is_suspected(self, limit: int) -> bool:
        """Whether it is to be done apart from others."""
        return self.lost + self.lost_alone >= limit

    @property
    def counts(self) -> bool:
        """Whether anything is held against it."""
        return bool(self.deaths or self.died_on or self.lost or self.lost_alone)

    def died(self) -> Record:
        """After its process died."""
        return replace(self, died_on=(*self.died_on, self.node), open=False)

    def without(self, gone: Collection[str]) -> Record:
        """After the nodes ``gone`` were found to be no more: what died there was lost with them."""
        stands = tuple(node for node in self.died_on if node not in gone)
        return replace(self, died_on=stands, lost=self.lost + len(self.died_on) - len(stands))

    def went(self) -> Record:
        """After its machine did."""
        if self.company:
            return replace(self, lost=self.lost + 1, open=False)
        return replace(self, lost_alone=self.lost_alone + 1, open=False)


class AttemptBook:
    """Records of steps in one run, whose driver is on the machine ``home``; ``limit`` as above."""

    def __init__(self, limit: int, records: Mapping[str, Record] | None = None, home: str = "") -> None:
        self.draining = False
        self._limit = limit
        self._home = home
        self._records = dict(records or {})

    def nodes_of(self, step: str) -> set[str]:
        """The nodes of this run on which attempts at ``step`` have not ended."""
        record = self._records.get(step, Record())
        return {*record.died_on, *([record.node] if record.open else [])}

    def begin(
        self,
        step: str,
        *,
        finishing: bool = False,
        apart: bool = False,
        by: str = "",
        node: str = "",
        gone: Collection[str] = (),
    ) -> Attempt:
        """An attempt at ``step`` begins on ``node``.

        ``finishing`` steps go on while a run is draining; ``apart``: nothing else of the phase is left.
        ``by`` names the call: one that is repeated, because its answer was lost, begins nothing new.
        ``gone``: those of `nodes_of` that are no more.
        """
        record = self._records.get(step, Record())
        if record.open and by and record.by == by:
            return Attempt(record.begun)
        record = record.without(gone)
        if record.open:
            record = record.went() if record.node in gone else record.died()
        self._records[step] = record
        if record.given_up(self._limit):
            return Attempt(record.begun, "crashed")
        if self.draining and not finishing:
            return Attempt(record.begun, "draining")
        if record.is_suspected(self._limit) and not apart:
            return Attempt(record.begun, "apart")
        others = [name for name, other in self._records.items() if other.open and other.node == node]
        for name in others:
            self._records[name] = replace(self._records[name], company=True)
        self._records[step] = replace(
            record,
            begun=record.begun + 1,
            open=True,
            by=by,
            node=node,
            company=bool(others),
            at_home=node == self._home,
        )
        return Attempt(record.begun + 1)

    def end(self, step: str, *, well: bool) -> None:
        """The open attempt at ``step`` has ended; one that ended ``well`` is forgotten."""
        record = self._records.pop(step, Record())
        if not well:
            self._records[step] = replace(record, open=False)

    def close(self) -> None:
        """The run ends in an orderly way: what was in flight is nobody's fault."""
        self._records = {step: replace(record, open=False) for step, record in self._records.items()}

    def kept(self) -> dict[str, Record]:
        """What has to outlive the run: open attempts, and what died or was lost."""
        return {s: r for s, r in self._records.items() if r.open or r.counts}


def after_lost_run(records: Mapping[str, Record]) -> dict[str, Record]:
    """What the next run begins with. What is open was lost with the run: on the driver's machine it may have
    killed it, elsewhere it has not."""
    found = {}
    for step, record in records.items():
        past = replace(record, deaths=record.deaths + len(record.died_on), died_on=(), open=False)
        found[step] = past.went() if record.open and record.at_home else past
    return {step: record for step, record in found.items() if record.counts}
