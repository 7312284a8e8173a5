"""The POST at the end of a run: what it says, and that it can break nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs import webhook
from jobs.cli import app
from jobs.webhook import posted_at_end
from pipeline.errors import RunError, SpecError, StoreError

SECRET = "T0B0-very-secret-path"


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server that keeps what is posted to it, and answers with ``status``."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing on stderr."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{SECRET}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_ending_in(error: BaseException, url: str) -> None:
    with posted_at_end(url) as told:
        told["name"] = "nightly"
        raise error


def test_what_the_block_fills_in_is_posted_once() -> None:
    with receiver() as (url, seen):
        with posted_at_end(url) as told:
            told["status"] = "done"
        assert seen == [{"status": "done"}]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SpecError("seed: no", field="seed"), "refused", 2),
        (StoreError("s3://b: gone"), "failed", 1),
        (RunError("the workers gave up"), "failed", 1),
        (KeyError("x"), "failed", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_a_run_that_did_not_end_well_is_told_too_and_its_error_goes_on(
    error: BaseException, status: str, code: int
) -> None:
    with receiver() as (url, seen):
        with pytest.raises(type(error)):
            run_ending_in(error, url)
        (said,) = seen
    assert (said["name"], said["status"], said["exit_code"]) == ("nightly", status, code)


def test_an_answer_that_is_no_welcome_and_no_answer_are_warnings_without_the_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with receiver(status=500) as (url, seen):
        with posted_at_end(url):
            pass
        assert len(seen) == 1
    with posted_at_end(url):  # by now nobody listens there
        pass
    first, second = capsys.readouterr().err.splitlines()
    assert "answered 500" in first
    assert "did not take the summary" in second
    assert SECRET not in first + second


def test_a_receiver_that_never_answers_does_not_hold_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        posted_at_end(f"http://127.0.0.1:{silent.getsockname()[1]}/"),
    ):
        pass
    assert "TimeoutError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["hooks.example.com", "ftp://a/b", "https://me:pw@host/x", "file:///etc/passwd"]
)
def test_an_address_that_is_none_is_refused_before_any_work(url: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", str(tmp_path / "job.yaml"), "--webhook", url])
    assert done.exit_code == 2
    assert "--webhook" in done.stderr
    assert "pw" not in done.stderr


def test_the_command_posts_a_refusal_and_keeps_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: a\nsource: in.mp4\noutput: out\nseed: -1\n")
    with receiver(status=500) as (url, seen):
        done = CliRunner().invoke(app, ["run", str(tmp_path / "job.yaml")], env={"REELWEAVE_WEBHOOK": url})
        assert done.exit_code == 2
        (said,) = seen
    assert said["exit_code"] == 2
    assert "seed: must be at least 0" in said["error"]
    assert SECRET not in done.stderr


def test_nothing_is_posted_without_an_address() -> None:
    with posted_at_end(None) as told:
        told["status"] = "done"
