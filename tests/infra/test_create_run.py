"""The nightly creation of a run, against a small API server: one at a time, and sentences when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.kuberay.cronjob.create_run import NoClusterError, Runs, read_template, start
from tests.infra.files import INFRA, only

PROGRAM = INFRA / "kuberay" / "cronjob" / "create_run.py"
TEMPLATE = INFRA / "kuberay" / "base" / "rayjob.yaml"


class Api(ThreadingHTTPServer):
    """Lists and creates RayJobs in memory, and refuses other tokens."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.runs: list[dict[str, Any]] = []

    def runs_of(self, token: str = "right") -> Runs:
        return Runs(f"http://127.0.0.1:{self.server_port}", "video", token, None)


class _Answer(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        assert self.path.endswith(
            "/namespaces/video/rayjobs?labelSelector=app.kubernetes.io%2Fname%3Dreelweave"
        )
        self._answer({"items": self.server.runs})

    def do_POST(self) -> None:
        run = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        run["metadata"]["name"] = f"{run['metadata'].pop('generateName')}{len(self.server.runs)}"
        self.server.runs.append(run)
        self._answer(run)

    def _answer(self, body: dict[str, Any]) -> None:
        self.send_response(200 if self.headers["Authorization"] == "Bearer right" else 403)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_run_is_created_from_the_template_under_a_name_of_its_own(api: Api) -> None:
    assert start(api.runs_of(), read_template(str(TEMPLATE))) == "created reelweave-0"
    (run,) = api.runs
    assert run["spec"] == only("kuberay", "base", "rayjob.yaml")["spec"]


def test_nothing_is_created_while_a_run_is_at_work(api: Api) -> None:
    template = read_template(str(TEMPLATE))
    start(api.runs_of(), template)
    for status in ({}, {"jobDeploymentStatus": "Running"}, {"jobDeploymentStatus": "Retrying"}):
        api.runs[0]["status"] = status
        assert start(api.runs_of(), template) == "reelweave-0 is still at work; nothing was created"
    assert len(api.runs) == 1


@pytest.mark.parametrize("ended", ["Complete", "Failed"])
def test_a_run_that_has_ended_is_followed_by_the_next(api: Api, ended: str) -> None:
    template = read_template(str(TEMPLATE))
    start(api.runs_of(), template)
    api.runs[0]["status"] = {"jobDeploymentStatus": ended}
    assert start(api.runs_of(), template) == "created reelweave-1"


@pytest.mark.parametrize(
    "text", ["", "- a list", "metadata: {name: x}", "a: ]", "metadata: {name: x, labels: 1}"]
)
def test_what_is_no_template_is_refused_with_the_way_out(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(NoClusterError, match=r"no template of a run .* with `kubectl apply -k`"):
        read_template(str(tmp_path / "run.yaml"))


def test_outside_a_cluster_a_sentence_says_how_to_start_a_run() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(TEMPLATE)],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "no pod with a service account" in ended.stderr
    assert "kubectl create -f" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("token", "code"), [("wrong", 1), ("right", 0)])
def test_the_program_says_what_the_server_refused(
    api: Api, token: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from infra.kuberay.cronjob import create_run

    monkeypatch.setattr(create_run.Runs, "of_this_pod", lambda: api.runs_of(token))
    assert create_run.main(str(TEMPLATE)) == code
    shown = capsys.readouterr()
    assert ("refused with 403" in shown.err) == (code == 1)
    assert ("created reelweave-0" in shown.out) == (code == 0)
