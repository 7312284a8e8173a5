"""The lease of an output: one run at a time writes there, and a run that lost its turn publishes nothing.

    manifests/leases/0000000007.json      the seventh run; its number is its fencing token

Taking it. The objects are numbered without gaps and never removed, and each is created exclusively:

    1. find the newest lease
    2. is it free? released, or its process is dead on this machine, or not renewed for ``expiry`` seconds
                                        not free: look again after ``poll`` seconds, for ``wait`` seconds
    3. create the next number           refused: another run was faster, begin again
                                        die here: it is free again after ``expiry``

Holding it. A thread rewrites the object every ``renew`` seconds; that is its sign of life. Its age is taken
from the storage's own times, the object's against that of one written just now, so the clocks of the
machines do not matter.

Losing it. A run that was stopped (a frozen machine, a lost network) may wake up after another has taken
over. It cannot know by its clock, so it asks the storage: `Fence.check` refuses as soon as the next number
exists. Publication checks it before every line (`pipeline.commit`), manifest rows carry the token and the
highest counts, and a video is only replaced in the version that was there when the token was still good.

Why these times. Renewal every 3 s costs 20 small requests a minute. Five missed renewals in a row are
needed to lose a lease, which a busy driver does not do by accident. A killed run on the same machine is
noticed at once, so restarting by hand does not wait; a lost machine costs 15 s, less than it takes to start
another. Waiting twice as long as the expiry tells a dead holder from a living one for sure.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.metrics import show_lease
from pipeline.store import Store

_FOLDER = "manifests/leases"
_GOODBYE_SECONDS = 5.0
_TOKEN_OF_ROW = re.compile(r"\.(\d{10})(?:\.quarantined)?\.json$")


class LeaseHeldError(StoreError):
    """Another run holds the output. ``facts`` name it: run_id, node, pid, since, token."""


class LeaseLostError(StoreError):
    """Another run has taken the output over; what this run has committed so far stays good."""


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds: between signs of life, until a silent holder is given up, how long to wait for a lease and
    between looks at it. ``expiry`` should be several times ``renew``."""

    renew: float = 3.0
    expiry: float = 15.0
    wait: float = 30.0
    poll: float = 1.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. ``process`` names the process beyond reuse of its id on one machine; ``since`` is
    for people and by the holder's clock; ``beats`` counts signs of life."""

    run_id: str
    node: str
    pid: int
    process: str
    since: str
    beats: int = 0
    released: bool = False


@dataclass(frozen=True)
class Fence:
    """The token of a lease, as it travels to workers. Token 0 belongs to no lease and always passes."""

    token: int = 0

    def check(self, store: Store) -> None:
        """Raises LeaseLostError when a later run has taken the output over."""
        if self.token and store.exists(_path(self.token + 1)):
            raise self.lost(store)

    def lost(self, store: Store) -> LeaseLostError:
        """What to raise when the lease is lost."""
        return LeaseLostError(
            f"{store.root}: another run has taken this output over (lease {self.token + 1} after "
            f"{self.token}); this one stops, and nothing it has committed is lost",
            uri=store.root,
            token=self.token,
        )


NO_LEASE = Fence()


class Lease:
    """A lease that is held and renewed. `hold_lease` makes one."""

    def __init__(self, store: Store, token: int, holder: Holder, times: LeaseTimes) -> None:
        self.fence = Fence(token)
        self._store = store
        self._holder = holder
        self._times = times
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{token}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another run is known to have taken over."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raises LeaseLostError when the lease is known to be lost. No request is made."""
        if self.lost:
            raise self.fence.lost(self._store)

    def still_ours(self) -> bool:
        """Asks the storage whether the lease is still held."""
        try:
            self.fence.check(self._store)
        except LeaseLostError:
            self._lost.set()
            show_lease(held=False)
        return not self.lost

    def release(self) -> None:
        """Ends renewal and gives the lease back, so that the next run need not wait.

        Storage that does not answer is not waited for, since this may be the end of an interrupted run: a
        lease that is not given back expires.
        """
        self._stop.set()
        self._thread.join(_GOODBYE_SECONDS)

    def _renew(self) -> None:
        while not self._stop.wait(self._times.renew):
            # Storage that is away for a while does not end a lease; the fence decides.
            with contextlib.suppress(StoreError):
                self._write()
                if not self.still_ours():
                    return
        with contextlib.suppress(StoreError):
            self._write(released=True)

    def _write(self, *, released: bool = False) -> None:
        self._holder = replace(self._holder, beats=self._holder.beats + 1, released=released)
        self._store.put(_path(self.fence.token), canonical_json(self._holder))
        show_lease(held=not released)


@contextlib.contextmanager
def hold_lease(store: Store, run_id: str, times: LeaseTimes | None = None) -> Iterator[Lease]:
    """Takes the lease of ``store`` for ``run_id``, holds it and gives it back.

    Raises LeaseHeldError when another run still holds it after ``times.wait`` seconds, StoreError when
    storage fails.
    """
    lease = _take(store, run_id, times or LeaseTimes())
    try:
        yield lease
    finally:
        lease.release()


def _take(store: Store, run_id: str, times: LeaseTimes) -> Lease:
    deadline = time.monotonic() + times.wait
    known = 0
    while True:
        newest = max(known, _newest(store))
        found = _find(store, newest)
        silent = 0.0 if found is None or _is_free(found) else _silence(store, newest)
        if found is None or _is_free(found) or silent >= times.expiry:
            ours = _ourselves(run_id)
            if store.put_new(_path(newest + 1), canonical_json(ours)):
                return Lease(store, newest + 1, ours, times)
            known = newest + 1  # whatever a listing may say
        elif time.monotonic() >= deadline:
            raise _held(store, newest, found, silent, times)
        else:
            time.sleep(times.poll)


def _path(token: int) -> str:
    return f"{_FOLDER}/{token:010d}.json"


def _newest(store: Store) -> int:
    """The highest token given so far. Where somebody has removed the leases, the manifest rows remember:
    a token that was given twice would let old rows stand before new ones."""
    names = (path.rpartition("/")[2].removesuffix(".json") for path in store.list(_FOLDER))
    newest = max((int(name) for name in names if name.isdecimal()), default=0)
    if newest:
        return newest
    rows = (_TOKEN_OF_ROW.search(path) for path in store.list("manifests/videos"))
    return max((int(found[1]) for found in rows if found), default=0)


def _find(store: Store, token: int) -> Holder | None:
    """The holder of a lease; None when there is no such lease, and a nameless one when it is unreadable."""
    if token == 0:
        return None
    try:
        return Holder(**json.loads(store.read(_path(token))))
    except ObjectMissingError:
        return None
    except (ValueError, TypeError):
        return Holder("unreadable", "", 0, "", "")


def _silence(store: Store, token: int) -> float:
    """Seconds since a lease was renewed, by the storage's own clock (S3: give or take one)."""
    clock = f".work/clock-{uuid.uuid4().hex}"
    store.put(clock, b"")
    try:
        now, renewed = store.stat(clock), store.stat(_path(token))
    finally:
        store.delete(clock)
    if now is None or renewed is None:
        raise StoreError(f"{store.uri(_path(token))}: was removed while it was looked at", uri=store.root)
    return max(0.0, now.modified - renewed.modified)


def _ourselves(run_id: str) -> Holder:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Holder(run_id, platform.node(), pid, f"{_machine()}/{_born(pid)}", since)


def _is_free(holder: Holder) -> bool:
    """Released, or held by a process of this machine that is no more."""
    machine, _, born = holder.process.rpartition("/")
    dead_here = machine != "" and machine == _machine() and _born(holder.pid) != born
    return holder.released or dead_here


def _machine() -> str:
    """This boot of this machine and this space of process ids (a container has its own); "" if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process of this machine started, in ticks since boot; "" when there is none or it is over."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *others = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in ("Z", "X") else others[18]


def _held(store: Store, token: int, holder: Holder, silent: float, times: LeaseTimes) -> LeaseHeldError:
    return LeaseHeldError(
        f"{store.root}: run {holder.run_id} on {holder.node} (process {holder.pid}) has been writing here "
        f"since {holder.since}, last heard of {silent:.0f} s ago; waited {times.wait:g} s for it. Wait until "
        f"it ends, or stop it and run again: its lease ends {times.expiry:g} s after its last sign of life",
        uri=store.root,
        run_id=holder.run_id,
        node=holder.node,
        pid=holder.pid,
        since=holder.since,
        token=token,
    )
