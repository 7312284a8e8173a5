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
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.store import Store

_FOLDER = "manifests/leases"


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
            raise LeaseLostError(
                f"{store.root}: another run has taken this output over (lease {self.token + 1} after "
                f"{self.token}); this one stops, and nothing it has committed is lost",
                uri=store.root,
                token=self.token,
            )


class Lease:
    """A lease that is held. `hold_lease` makes one."""

    def __init__(self, store: Store, token: int, holder: Holder, times: LeaseTimes) -> None:
        self.fence = Fence(token)
        self.holder = holder
        self._store = store
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
        """Raises LeaseLostError when the lease is known to be lost. Costs nothing: no request is made."""
        if self.lost:
            self.fence.check(self._store)

    def release(self) -> None:
        """Gives the lease back; the next run need not wait."""
        self._stop.set()
        self._thread.join()
        self._write(released=True)

    def _renew(self) -> None:
        while not self._stop.wait(self._times.renew):
            # Storage that is away for a moment is not the end of a lease; the fence decides.
            with contextlib.suppress(StoreError):
                self._write()
                self.fence.check(self._store)
                continue
            with contextlib.suppress(ObjectMissingError):
                pass

    def _write(self, released: bool = False) -> None:
        beats = self.holder.beats + 1
        self.holder = Holder(**{**asdict(self.holder), "beats": beats, "released": released})
        self._store.put(_path(self.fence.token), canonical_json(self.holder))


@contextlib.contextmanager
def hold_lease(store: Store, run_id: str, times: LeaseTimes | None = None) -> Iterator[Lease]:
    """Takes the lease of ``store`` for ``run_id``, holds it and gives it back.

    Raises LeaseHeldError when another run still holds it after ``times.wait`` seconds, StoreError when
    storage fails.
    """
    times = times or LeaseTimes()
    lease = _take(store, run_id, times)
    try:
        yield lease
    finally:
        # A lease that cannot be given back expires.
        with contextlib.suppress(StoreError):
            lease.release()


def _take(store: Store, run_id: str, times: LeaseTimes) -> Lease:
    holder = Holder(
        run_id=run_id,
        node=platform.node(),
        pid=os.getpid(),
        process=_process(os.getpid()),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    deadline = time.monotonic() + times.wait
    while True:
        newest = _newest(store)
        held_by = _holder(store, newest) if newest else None
        age = 0.0
        if held_by is not None and not held_by.released and not _is_dead(held_by):
            age = _age(store, newest)
            if age < times.expiry:
                if time.monotonic() >= deadline:
                    raise _held(store, newest, held_by, age, times)
                time.sleep(times.poll)
                continue
        if store.put_new(_path(newest + 1), canonical_json(holder)):
            return Lease(store, newest + 1, holder, times)


def _newest(store: Store) -> int:
    names = (path.rpartition("/")[2].removesuffix(".json") for path in store.list(_FOLDER))
    return max((int(name) for name in names if name.isdecimal()), default=0)
