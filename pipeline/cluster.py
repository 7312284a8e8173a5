"""Starting Ray.

`start_ray` is the only caller of ``ray.init``. It always ships the packages as a working directory, so that
workers run the driver's code wherever they are; tasks compare code digests all the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from pipeline.encoder_check import is_local
from pipeline.errors import RunError, SpecError
from pipeline.settings import ClusterSettings

_PACKAGES = ("pipeline", "operators", "jobs")
_INIT_DEATHS = 3
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """What the run may use. ``device`` is "cuda" when GPUs are present, else "cpu"."""

    device: str
    settings: ClusterSettings
    local: bool
    capacity: int

    def actors(self, rows: int) -> ActorPoolStrategy:
        """Pool for ``rows`` units of work: fixed size on this machine, a range on a cluster."""
        low, high = self.settings.actors
        if self.local:
            # With two tasks in flight per actor (Ray Data's default) the first actor that is up takes two
            # of two chunks, and the other idles: nothing is stolen back.
            size = max(1, min(high, rows, self.capacity))
            return ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1)
        return ActorPoolStrategy(min_size=max(1, min(low, rows)), max_size=max(1, min(high, rows)))

    @property
    def actor_resources(self) -> dict[str, float]:
        """Ray resources of one enhance actor."""
        if self.device == "cuda":
            return {"num_gpus": self.settings.gpus_per_actor, "num_cpus": 0}
        return {"num_cpus": 1}


@contextlib.contextmanager
def start_ray(settings: ClusterSettings) -> Iterator[Cluster]:
    """Connect to ``settings.address``, or start Ray on this machine ("local", or "auto" outside a cluster).

    Inside another `start_ray` the running Ray is used. Raises SpecError (field ``cluster``) for an
    address that cannot be reached or a cluster too small for one actor.
    """
    if ray.is_initialized():
        yield _survey(settings, local=is_local(settings))
        return
    staged = _stage_packages()
    try:
        _connect(settings, staged)
        try:
            yield _survey(settings, local=is_local(settings))
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _connect(settings: ClusterSettings, staged: str) -> None:
    quiet = {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    os.environ.update(quiet)
    # Without a fixed workspace cuBLAS chooses kernels by what else is running.
    workers = {**quiet, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    # Ray's C++ side writes warnings about its own bookkeeping to the terminal; its log files keep them.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {
        "runtime_env": {"working_dir": staged, "env_vars": workers},
        "logging_level": logging.ERROR,
        "log_to_driver": bool(os.environ.get("REELWEAVE_DEBUG")),
        "configure_logging": True,
    }
    if is_local(settings):
        # Actors hold a logical CPU each for the whole phase; decoding and encoding need some beside them.
        cores = os.cpu_count() or 1
        # A token of its own: Ray would write one into the home directory, which a container may not have.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options |= {
            "address": "local",
            "num_cpus": cores + settings.actors[1],
            "include_dashboard": False,
        }
    else:
        address = os.environ.get("RAY_ADDRESS", "") if settings.address == "auto" else settings.address
        _must_answer(address)
        options["address"] = address
    try:
        with _own_termination():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise SpecError(
            f"cluster.address: Ray at {settings.address} cannot be used ({error}); if that cluster asks for "
            "a token, set RAY_AUTH_MODE=token and the token it was started with; or use 'local'",
            field="cluster.address",
        ) from error
    except Exception as error:  # a plain one: Ray waits half a minute for its own processes
        why = " ".join(str(error).split())
        raise RunError(
            f"Ray did not start ({why}); when this machine is less busy, run again to resume"
        ) from error
    _set_up_ray_data()


@contextlib.contextmanager
def _own_termination() -> Iterator[None]:
    """Ray takes SIGTERM over, to leave by ``SystemExit(15)``: undone, and what it did meanwhile is an
    interruption as any other."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as left:
        raise KeyboardInterrupt from left
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _must_answer(address: str) -> None:
    """Ray itself tries an address that nobody listens at for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise SpecError(
            f"cluster.address: nothing answers at {address} ({error}); start Ray there, correct the address, "
            "or use 'local'",
            field="cluster.address",
        ) from error


def _set_up_ray_data() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # An actor that is killed while it loads the model is replaced; the default gives the run up.
    context.max_consecutive_actor_init_deaths = _INIT_DEATHS
    # A thread of Ray Data's asks for a Prometheus every ten seconds and logs each failure, after the end of
    # the session into a closed file, which logging then reports on the terminal.
    logging.getLogger("ray.data._internal.usage").setLevel(logging.WARNING)
    if not os.environ.get("REELWEAVE_DEBUG"):
        # What it logs goes to its session's file; errors reach the user through us, once and in a sentence.
        for handler in logging.getLogger("ray.data").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.CRITICAL + 1)


def set_patience(seconds: float) -> None:
    """How long Ray Data may see no block move before it gives the run up (30 minutes by default, which a
    slow chunk exceeds)."""
    DataContext.get_current().execution_no_progress_timeout_s = int(seconds)


def _survey(settings: ClusterSettings, *, local: bool) -> Cluster:
    resources = ray.cluster_resources()
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    if gpus > 0 and settings.gpus_per_actor > 0:
        capacity = int(gpus / settings.gpus_per_actor)
        device = "cuda"
    else:
        capacity = int(cpus) - 1
        device = "cpu"
    if capacity < 1:
        raise SpecError(
            f"cluster: {gpus:g} GPUs and {cpus:g} CPUs do not hold one actor of {settings.gpus_per_actor:g} "
            "GPUs (or one CPU and one more for decoding); add nodes or lower cluster.gpus_per_actor",
            field="cluster.gpus_per_actor",
        )
    return Cluster(device, settings, local, capacity)


def _stage_packages() -> str:
    """A copy of the packages without caches: the directory workers import from."""
    root = Path(__file__).resolve().parent.parent
    staged = tempfile.mkdtemp(prefix="reelweave-code-")
    for package in _PACKAGES:
        shutil.copytree(
            root / package,
            Path(staged) / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.mp4"),
        )
    return staged
