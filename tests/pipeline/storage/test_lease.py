"""One run at a time: taking, holding, losing and inheriting the lease of an output."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import lease as lease_module
from pipeline.errors import StoreError
from pipeline.lease import Fence, LeaseHeldError, LeaseLostError, LeaseTimes, hold_lease
from pipeline.objects import ObjectInfo
from pipeline.store import Store

QUICK = LeaseTimes(renew=0.2, expiry=30.0, wait=0.5, poll=0.05)
FIRST = "manifests/leases/0000000001.json"


class OtherMachine:
    """Makes a block act as a machine whose processes this one cannot see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __enter__(self) -> None:
        self._monkeypatch.setattr(lease_module, "_machine", lambda: "another")
        self._monkeypatch.setattr("platform.node", lambda: "node-b")

    def __exit__(self, *_: object) -> None:
        self._monkeypatch.undo()


class SkewedStore(Store):
    """A store whose clock is off by ``skew`` seconds against the machine's."""

    skew = 0.0

    def stat(self, rel: str) -> ObjectInfo | None:
        found = super().stat(rel)
        return found and dataclasses.replace(found, modified=found.modified + self.skew)


def _abandoned(store: Store, *, silent: float = 0.0) -> None:
    """The lease of a run on a machine that is gone, last renewed ``silent`` seconds ago."""
    holder = {
        "run_id": "lost-run",
        "node": "node-z",
        "pid": 1,
        "process": "elsewhere/1",
        "since": "2026-01-01T00:00:00Z",
        "beats": 3,
        "released": False,
    }
    assert store.put_new(FIRST, json.dumps(holder).encode())
    if silent:
        past = time.time() - silent
        os.utime(store.uri(FIRST), (past, past))


def test_runs_one_after_another_get_growing_tokens_without_waiting(store: Store) -> None:
    tokens = []
    begun = time.monotonic()
    for run in range(3):
        with hold_lease(store, f"run-{run}") as held:
            tokens.append(held.fence.token)
            held.check()
            held.fence.check(store)
    assert tokens == [1, 2, 3]
    assert time.monotonic() - begun < LeaseTimes().renew, "no expiry was waited for"


def test_taking_and_giving_back_costs_less_than_a_tenth_of_a_second(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    costs = []
    for run in range(5):
        begun = time.perf_counter()
        with hold_lease(store, f"run-{run}"):
            pass
        costs.append(time.perf_counter() - begun)
    assert min(costs) < 0.1


def test_a_second_run_is_refused_and_told_who_holds_it_and_what_to_do(store: Store) -> None:
    with hold_lease(store, "first-run"):
        begun = time.monotonic()
        told = pytest.raises(LeaseHeldError, match=r"run first-run on .* Wait until it ends")
        with told as caught, hold_lease(store, "second-run", QUICK):
            pytest.fail("two runs at once")
        assert time.monotonic() - begun >= QUICK.wait
    assert caught.value.facts["run_id"] == "first-run"
    assert caught.value.facts["pid"] == os.getpid()
    assert caught.value.facts["node"]
    assert caught.value.facts["since"].endswith("Z")
    with hold_lease(store, "second-run", QUICK) as held:
        assert held.fence.token == 2


def test_a_second_run_that_waits_goes_on_when_the_first_ends(store: Store) -> None:
    order: list[str] = []

    def second() -> None:
        with hold_lease(store, "second", dataclasses.replace(QUICK, wait=20.0)):
            order.append("second")

    with hold_lease(store, "first"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        order.append("first")
    waiting.join(20)
    assert order == ["first", "second"]


def test_of_eight_runs_at_once_exactly_one_holds_the_lease(store: Store) -> None:
    barrier, holding = threading.Barrier(8), []

    def run(i: int) -> int:
        barrier.wait()
        try:
            with hold_lease(store, f"run-{i}", dataclasses.replace(QUICK, wait=60.0)) as held:
                holding.append(i)
                assert holding == [i]
                time.sleep(0.02)
                holding.remove(i)
                return held.fence.token
        except StoreError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(run, range(8)))
    assert sorted(tokens) == list(range(1, 9))


def test_a_holder_that_fell_silent_is_followed_after_expiry_and_not_before(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    _abandoned(store, silent=QUICK.expiry - 5.0)
    with pytest.raises(LeaseHeldError, match="lost-run on node-z"), hold_lease(store, "next", QUICK):
        pass
    past = time.time() - QUICK.expiry - 1.0
    os.utime(store.uri(FIRST), (past, past))
    begun = time.monotonic()
    with hold_lease(store, "next", QUICK) as held:
        assert held.fence.token == 2
    assert time.monotonic() - begun < 1.0


def test_a_silent_holder_is_followed_by_the_clock_of_any_storage(store: Store) -> None:
    _abandoned(store)
    brief = LeaseTimes(renew=0.2, expiry=1.0, wait=20.0, poll=0.1)
    begun = time.monotonic()
    with hold_lease(store, "next", brief) as held:
        assert held.fence.token == 2
    # S3 tells whole seconds, so a second may look like none or like two.
    assert time.monotonic() - begun < 10.0


def test_a_living_holder_is_never_given_up_however_long_it_takes(store: Store) -> None:
    # S3 tells whole seconds: an expiry of several is needed to see a renewal every half second.
    times = LeaseTimes(renew=0.3, expiry=4.0, wait=6.0, poll=0.2)
    with hold_lease(store, "living", times) as held:
        with pytest.raises(LeaseHeldError), hold_lease(store, "impatient", times):
            pass
        assert not held.lost


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
def test_clocks_of_machines_do_not_matter(
    tmp_path: Path, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, skewed = Store(str(tmp_path)), SkewedStore(str(tmp_path))
    skewed.skew = skew
    _abandoned(plain, silent=QUICK.expiry - 5.0)
    real = time.time
    for clock in (real, lambda: real() + skew):
        monkeypatch.setattr(time, "time", clock)
        with pytest.raises(LeaseHeldError), hold_lease(skewed, "early", QUICK):
            pass
    monkeypatch.undo()
    past = time.time() - QUICK.expiry - 1.0
    os.utime(plain.uri(FIRST), (past, past))
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    with hold_lease(skewed, "next", QUICK) as held:
        assert held.fence.token == 2


def _hold_and_hang(root: str, ready: object) -> None:
    with hold_lease(Store(root), "killed-run"):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(600)


def test_after_a_kill_on_this_machine_the_next_run_does_not_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    victim = context.Process(target=_hold_and_hang, args=(str(tmp_path), ready))
    victim.start()
    assert ready.wait(20)
    with pytest.raises(LeaseHeldError), hold_lease(Store(str(tmp_path)), "too early", QUICK):
        pass
    assert victim.pid
    os.kill(victim.pid, signal.SIGKILL)
    # Not reaped yet: a dead process that its parent has not asked about counts as dead too.
    time.sleep(0.2)
    begun = time.monotonic()
    with hold_lease(Store(str(tmp_path)), "next", QUICK) as held:
        assert held.fence.token == 2
    assert time.monotonic() - begun < 1.0
    victim.join(10)


def test_a_killed_run_of_another_machine_or_container_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    with OtherMachine(monkeypatch):
        gone = lease_module._ourselves("theirs")
        store.put_new(FIRST, json.dumps({**dataclasses.asdict(gone), "pid": 2**22 + 1}).encode())
    with pytest.raises(LeaseHeldError, match="on node-b"), hold_lease(store, "ours", QUICK):
        pass


def test_a_run_that_was_overtaken_notices_and_may_not_publish(store: Store) -> None:
    with hold_lease(store, "frozen", dataclasses.replace(QUICK, renew=0.1)) as held:
        held.check()
        assert store.put_new("manifests/leases/0000000002.json", b"{}")  # somebody waited long enough
        with pytest.raises(LeaseLostError, match=r"lease 2 after 1"):
            held.fence.check(store)
        deadline = time.monotonic() + 20.0
        while not held.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(LeaseLostError):
            held.check()
    assert b'"released":false' in store.read(FIRST), "what is lost is not given back"


def test_storage_that_is_away_for_a_while_does_not_cost_the_lease(tmp_path: Path) -> None:
    class Away(Store):
        away = False

        def put(self, rel: str, data: bytes) -> None:
            if self.away:
                raise StoreError("injected")
            super().put(rel, data)

    store = Away(str(tmp_path))
    with hold_lease(store, "run", dataclasses.replace(QUICK, renew=0.05)) as held:
        store.away = True
        time.sleep(0.3)
        held.check()
        store.away = False
        before = store.stat(FIRST)
        deadline = time.monotonic() + 20.0
        while store.stat(FIRST) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert store.stat(FIRST) != before


def test_the_end_of_a_run_does_not_wait_for_storage_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    class Silent(Store):
        def put(self, rel: str, data: bytes) -> None:
            answered.wait(60.0)

    monkeypatch.setattr(lease_module, "_GOODBYE_SECONDS", 0.2)
    with hold_lease(Silent(str(tmp_path)), "run"):
        begun = time.monotonic()
    assert time.monotonic() - begun < 5.0
    answered.set()


def test_an_unreadable_lease_is_respected_until_it_expires(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put(FIRST, b"{torn")
    with pytest.raises(LeaseHeldError), hold_lease(store, "run", QUICK):
        pass
    past = time.time() - QUICK.expiry - 1.0
    os.utime(store.uri(FIRST), (past, past))
    with hold_lease(store, "run", QUICK) as held:
        assert held.fence.token == 2


def test_a_listing_that_is_behind_does_not_mislead(tmp_path: Path) -> None:
    class Behind(Store):
        def list(self, prefix: str) -> list[str]:
            return super().list(prefix)[:1]

    store = Store(str(tmp_path))
    for run in ("a", "b", "c"):
        with hold_lease(store, run):
            pass
    with hold_lease(Behind(str(tmp_path)), "d") as held:
        assert held.fence.token == 4
        with pytest.raises(LeaseHeldError), hold_lease(Behind(str(tmp_path)), "e", QUICK):
            pass


def test_no_lease_is_no_hindrance(store: Store) -> None:
    Fence().check(store)


def test_a_fence_pickles(store: Store) -> None:
    import pickle

    with hold_lease(store, "run") as held:
        assert pickle.loads(pickle.dumps(held.fence)) == held.fence
