"""A Ray cluster of one node, as an operator starts it: `ray start --head` with a dashboard and a token."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_STARTS = 4
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0
_LOG = "start.log"


@dataclass(frozen=True)
class LocalCluster:
    """``dashboard`` takes jobs, ``metrics`` is what Prometheus scrapes; both are URLs. ``env`` is the
    environment of whoever talks to the cluster."""

    dashboard: str
    metrics: str
    env: dict[str, str]

    def submit(self, submission_id: str, *command: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit`, which waits for the job's end."""
        asked = [*RAY, "job", "submit", "--address", self.dashboard, "--submission-id", submission_id]
        return subprocess.run(
            [*asked, "--", *command], env=self.env, capture_output=True, text=True, timeout=400, check=False
        )

    def scrape(self) -> str:
        """The metrics page of the node."""
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            return str(answer.read().decode())


RAY = (sys.executable, "-m", "ray.scripts.scripts")


@contextlib.contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """Starts the cluster in processes of its own and ends exactly those.

    Neither `ray stop`, which ends every Ray of the machine, nor the default folder, through which other
    sessions would find this cluster. The folder's name is short, since sockets lie in it.
    """
    folder = tempfile.mkdtemp(prefix="rw-", dir="/tmp")
    try:
        for _ in range(_STARTS):
            with _head(Path(folder)) as cluster:
                if cluster is not None:
                    yield cluster
                    return
        raise RuntimeError(f"the cluster did not start:\n{(Path(folder) / _LOG).read_text()[-4000:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _head(folder: Path) -> Iterator[LocalCluster | None]:
    """One attempt; None when it came to nothing. A raylet gives its agents fifteen seconds, which no setting
    changes and a busy machine exceeds; the next attempt finds their files in memory."""
    dashboard, metrics, agents, clients = (_free_port() for _ in range(4))
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_raylet_start_wait_time_s": "90",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    env.pop("RAY_ADDRESS", None)
    start = [*RAY, "start", "--head", "--block", "--port=0", "--num-cpus=3", "--disable-usage-stats"]
    start += [f"--temp-dir={folder}", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    start += [f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}"]
    start += [f"--dashboard-agent-grpc-port={agents}", f"--ray-client-server-port={clients}"]
    with open(folder / _LOG, "wb") as log:
        head = subprocess.Popen(start, env=env, stdout=log, stderr=log, start_new_session=True)
    cluster = LocalCluster(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics", env)
    try:
        yield cluster if _comes_up(cluster, head, folder / _LOG) else None
    finally:
        head.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)


def _comes_up(cluster: LocalCluster, head: subprocess.Popen[bytes], log: Path) -> bool:
    """Jobs are taken once the node runs, its agent, which also serves the metrics, and the dashboard."""
    deadline = time.monotonic() + _START_SECONDS
    jobs = urllib.request.Request(
        f"{cluster.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {cluster.env['RAY_AUTH_TOKEN']}"}
    )
    while time.monotonic() < deadline and head.poll() is None:
        if "Ray runtime started" in log.read_text():
            with contextlib.suppress(OSError), urllib.request.urlopen(jobs, timeout=10):
                cluster.scrape()
                return True
        time.sleep(0.5)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
