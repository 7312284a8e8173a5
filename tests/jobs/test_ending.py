"""A run that a scheduler ends says so by its exit code; what it leaves is tested with the graph."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.bench.processes import segments, start_run, wait_until
from tests.faults.jobs import write_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_terminated_exits_with_130_and_publishes_nothing(tmp_path: Path) -> None:
    # Slow enough that the run does not end while this process waits for a turn.
    job, output = write_job(tmp_path, "out", steps=40), tmp_path / "out"
    running = start_run(job)
    # A busy machine takes minutes to start Ray and a model.
    assert wait_until(lambda: segments(output) > 0, running, 720.0)
    os.kill(running.pid, signal.SIGTERM)
    _, log = running.communicate(timeout=280)
    assert running.returncode == 130, log
    assert "run the same command again to resume" in log
    assert "Traceback" not in log
    assert not list((output / "videos").rglob("*.mp4")) if (output / "videos").exists() else True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_interrupted_while_it_is_still_being_imported_says_so_and_exits_with_130(
    tmp_path: Path, number: signal.Signals
) -> None:
    # In place of the library that is imported first: a signal, and no end.
    (tmp_path / "typer.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stderr) == (130, "reelweave: interrupted\n")


#: A command that is over, and a library whose threads do not survive the end of Python.
CRASHING = """
import atexit, os, signal, sys
import jobs.cli
atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
jobs.cli.app = lambda: sys.exit({code})
print("said")
jobs.cli.main()
"""


@pytest.mark.parametrize(("code", "expected"), [(130, 130), (0, -signal.SIGSEGV)])
def test_what_was_interrupted_does_not_wait_for_the_end_of_python_in_which_libraries_crash(
    code: int, expected: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASHING.format(code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (expected, "said\n")
