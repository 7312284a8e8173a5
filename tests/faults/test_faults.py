"""Whatever happens to a run: once it or a later one is done, readers find what an undisturbed run leaves.

The rows of `tests.faults.table` are the cases. Files, decoded frames and both manifests are compared, but for
who made a thing and when; and nothing that was committed is computed again.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pipeline.graph
from jobs.bench.outcome import differences, read_outcome, untrue_rows
from jobs.bench.work_log import WorkLog, count_work, watched
from pipeline.errors import StoreError
from pipeline.events import Event, OnEvent
from pipeline.graph import run_job
from pipeline.lease import LeaseTimes, hold_lease
from pipeline.settings import JobSettings, StorageSettings
from pipeline.store import Store
from tests.faults.conftest import Site
from tests.faults.jobs import CHUNKS, Kind
from tests.faults.sabotage import Saboteur
from tests.faults.table import CLOCKS, KILLS, NETWORK, RIVALS, TORN, Clock, Kill, Network, Rival, Torn
from tests.pipeline.graph.jobs import run
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3 import S3Bucket

SECONDS = 300


class InterruptionError(Exception):
    """The end of a run that is told to end."""


def interrupt(event: Event) -> None:
    """When the first chunk is done."""
    if (event.kind, event.message, event.done) == ("chunk", "frames", 1):
        raise InterruptionError


def ends_as_undisturbed(site: Site, job: JobSettings, log: WorkLog, kind: Kind, lost: int) -> None:
    """What every fault must come to. ``lost``: attempts at chunks that may have come to nothing."""
    store = Store(job.output, job.storage)
    assert differences(site.undisturbed(kind), read_outcome(store)) == []
    work = count_work(log.read())
    assert work["again"] == 0, "something was computed although it was committed"
    assert work["lost"] <= lost
    if kind == "identity":
        assert work["chunks"] == CHUNKS


def slow_if_enhanced(kill: Kill) -> object:
    """Each phase of an enhancement starts an actor, which takes a busy machine minutes."""
    marks = (pytest.mark.slow, pytest.mark.timeout(1800))
    return pytest.param(kill, marks=marks) if kill.kind == "enhanced" else kill


@pytest.mark.parametrize("kill", [slow_if_enhanced(kill) for kill in KILLS], ids=str)
def test_a_kill_costs_what_was_in_flight_and_no_frame(
    site: Site, kill: Kill, tmp_path: Path, log: WorkLog
) -> None:
    site.undisturbed(kill.kind)
    job = site.job(kill.kind, tmp_path / "out")
    hand = Saboteur(log, kill.victim, kill.moment, kill.step, kill.nth, os.getpid())
    if kill.victim == "driver":
        assert _driver(job, kill, log) == -signal.SIGKILL
    if kill.victim == "node":
        site.add_node()
    assert untrue_rows(Store(job.output)) == []
    with watched(hand):
        summary = run(job)
    assert hand.struck.exists(), "nothing was killed"
    assert (summary.done, summary.quarantined) == (2, 1), summary.rows
    ends_as_undisturbed(site, job, log, kill.kind, kill.lost)


def test_a_lost_node_is_held_against_no_chunk_even_if_no_death_is_forgiven(
    site: Site, tmp_path: Path, log: WorkLog
) -> None:
    site.undisturbed("identity")
    job = site.job("identity", tmp_path / "out")
    job = dataclasses.replace(job, cluster=dataclasses.replace(job.cluster, max_attempts=1))
    site.add_node()
    hand = Saboteur(log, "node", "begin", "transcode", 3, os.getpid())
    with watched(hand):
        summary = run(job)
    assert hand.struck.exists(), "nothing was killed"
    assert (summary.done, summary.quarantined) == (2, 1), summary.rows
    # What was there is handed back once, to be done alone.
    ends_as_undisturbed(site, job, log, "identity", lost=2 * 3)


def _driver(job: JobSettings, kill: Kill, log: WorkLog) -> int:
    """Run a job in a process of its own; its exit code."""
    case = log.path.with_suffix(".pickle")
    case.write_bytes(pickle.dumps((job, kill, log.path)))
    command = [sys.executable, "-m", "tests.faults.driver", str(case)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, env=environment, timeout=SECONDS, check=False).returncode


@pytest.mark.parametrize("fault", NETWORK, ids=str)
def test_a_bad_network_changes_nothing_and_costs_no_chunk(
    site: Site, fault: Network, s3: S3Bucket, log: WorkLog
) -> None:
    site.undisturbed("identity")
    with fault_proxy(s3.endpoint_url) as proxy:
        storage = StorageSettings(endpoint_url=proxy.endpoint_url)
        job = dataclasses.replace(site.job("identity", f"{s3.url}/out"), storage=storage)
        lost = 0
        with watched(log):
            if fault.what == "stale":  # out of date: as it was for an earlier run
                lost = 3
                with pytest.raises(InterruptionError):
                    run_job(job, on_event=interrupt)
            proxy.faults.append(Fault(fault.method, fault.what, fault.times, fault.target))
            run(job)
            assert proxy.faults[0].times < fault.times, "no request met the fault"
            if fault.what == "stale":  # tables were made from old listings
                proxy.faults.clear()
                run(job)
    sound = dataclasses.replace(job, storage=s3.storage)
    ends_as_undisturbed(site, sound, log, "identity", lost)


@pytest.mark.parametrize("torn", TORN, ids=str)
def test_what_a_power_cut_tore_is_found_and_made_again(
    site: Site, torn: Torn, tmp_path: Path, log: WorkLog
) -> None:
    job = site.job("identity", tmp_path / "out")
    site.undisturbed("identity")
    run(job)
    work = tmp_path / "out" / ".work"
    _tear(torn, work)
    for path in (*(tmp_path / "out" / "videos").iterdir(), *(tmp_path / "out").glob("manifests/videos/*/*")):
        path.unlink()
    (work / "tmp" / "half-written").write_bytes(b"half")
    with watched(log):
        run(job)
    assert count_work(log.read())["chunks"] == torn.computed
    assert differences(site.undisturbed("identity"), read_outcome(Store(job.output))) == []
    assert not (work / "tmp" / "half-written").exists()


def _tear(torn: Torn, work: Path) -> None:
    pattern = "*.index" if torn.what == "index" else "*.mkv"
    victim = sorted(work.rglob(pattern))[0]
    if torn.what == "receipt":
        victim = victim.with_name(victim.name.partition(".")[0] + ".json")
    data = bytearray(victim.read_bytes())
    if torn.kept < 0:
        data[len(data) // 2] ^= 1
    else:
        del data[int(len(data) * torn.kept) :]
    victim.write_bytes(bytes(data))


@pytest.mark.parametrize("rival", RIVALS, ids=str)
def test_of_two_runs_at_once_the_later_one_counts_and_the_earlier_harms_nothing(
    site: Site, rival: Rival, tmp_path: Path, log: WorkLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.undisturbed("identity")
    at_once = LeaseTimes(renew=60.0, expiry=0.0, wait=10.0)  # the one that stands still is taken for dead
    monkeypatch.setattr(pipeline.graph, "hold_lease", functools.partial(hold_lease, times=at_once))
    job = site.job("identity", tmp_path / "out")
    later = []

    def stand_still(event: Event) -> None:
        kind, message = rival.event
        if not later and event.kind == kind and event.message.startswith(message) and event.done:
            later.append(event)
            assert run(job).done == 2

    with watched(log):
        end = _end_of(job, stand_still)
    assert later, "there was no rival"
    assert "another run has taken this output over" in end or end == "all is done"
    # Two attempts at one chunk at a time are no loss; one that begins after the other has ended would be.
    ends_as_undisturbed(site, job, log, "identity", lost=CHUNKS)


def _end_of(job: JobSettings, on_event: OnEvent) -> str:
    """How a run ends that is overtaken: the driver notices, or a worker, or all is done by then."""
    try:
        run_job(job, on_event=on_event)
    except StoreError as error:
        return str(error)
    return "all is done"


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
def test_a_driver_whose_clock_is_off_changes_nothing(
    site: Site, clock: Clock, tmp_path: Path, log: WorkLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.undisturbed("identity")
    job = site.job("identity", tmp_path / "out")
    now, date = time.time, time.gmtime
    with watched(log):
        with monkeypatch.context() as skewed:
            skewed.setattr(time, "time", lambda: now() + clock.seconds)
            skewed.setattr(time, "gmtime", lambda at=None: date(time.time() if at is None else at))
            with pytest.raises(InterruptionError):
                run_job(job, on_event=interrupt)
        run(job)
    ends_as_undisturbed(site, job, log, "identity", lost=3)
