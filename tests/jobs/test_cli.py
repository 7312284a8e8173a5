"""The command line as a process: exit codes, a clean stdout, no tracebacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.console import guarded, quiet_stdout, termination_interrupts
from jobs.spec import load_spec
from pipeline.errors import SourceError, SpecError, StoreError
from tests.jobs.media import published_store, write_clip

ROOT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()
HINT = "set REELWEAVE_DEBUG=1 for the traceback"


def reelweave(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_init_writes_a_job_file_that_loads_and_never_overwrites_one(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    assert RUNNER.invoke(app, ["init", str(path)]).exit_code == 0
    spec = load_spec(path)
    assert spec.to_settings().enhance[0]["restore"]["solver"] == {"name": "dpir"}
    path.write_text("mine")
    refused = RUNNER.invoke(app, ["init", str(path)])
    assert refused.exit_code == 2
    assert "already exists" in refused.stderr
    assert path.read_text() == "mine"
    assert RUNNER.invoke(app, ["init", str(path), "--force"]).exit_code == 0
    assert load_spec(path) == spec


def test_every_commented_alternative_of_the_job_file_loads_too(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    RUNNER.invoke(app, ["init", str(path)])
    text = path.read_text()
    opened = text.replace("# storage:", "storage:")
    opened = opened.replace("  # - stylize", "  - stylize").replace("  #     ", "      ")
    assert opened != text
    path.write_text(opened)
    spec = load_spec(path)
    assert spec.enhance[1].stylize is not None
    assert spec.storage.endpoint_url == "http://localhost:9000"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_bad_job_file_exits_2_with_one_line_and_an_empty_stdout(tmp_path: Path, command: str) -> None:
    (tmp_path / "job.yaml").write_text("name: a\nsource: in.mp4\noutput: out\nencode: {crf: 99}\n")
    done = reelweave(command, "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "reelweave: job.yaml: encode.crf: must be at most 63, found 99\n"
    assert not (tmp_path / "out").exists()


def test_the_debug_variable_shows_the_traceback(tmp_path: Path) -> None:
    done = reelweave("plan", str(tmp_path / "none.yaml"), REELWEAVE_DEBUG="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("reelweave: ")


@pytest.mark.parametrize(
    "arguments", [["plan"], ["nonsense"], ["run", "a.yaml", "--only", "done"], ["status", "out", "--jsonn"]]
)
def test_wrong_usage_exits_2_on_stderr(arguments: list[str]) -> None:
    done = RUNNER.invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_limit_of_failures_and_none_at_all_do_not_go_together(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["run", str(tmp_path / "job.yaml"), "--keep-going", "--max-failures", "0"])
    assert done.exit_code == 2
    assert "--keep-going allows any number of failures" in done.stderr
    assert RUNNER.invoke(app, ["run", "job.yaml", "--max-failures", "-1"]).exit_code == 2


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("enhance=[{stylize: {reference: ink.png}}]", "enhance.0.stylize.reference"),
        ("enhance.0.restore.degradation={kind: inpainting, mask: m.png}", "degradation.mask"),
        ("model=./model", "model"),
        ("provenance.c2pa=embed", "provenance.certificate"),
        ("provenance={certificate: none.pem, key: none.pem}", "provenance."),
        ("source=nothing/*.mp4", "source"),
        ("source=.", "source"),
        ("output=job.yaml", "output"),
    ],
)
def test_plan_refuses_what_is_not_there_and_writes_nothing(tmp_path: Path, override: str, field: str) -> None:
    write_clip(tmp_path / "videos" / "a.mp4")
    assert reelweave("init", cwd=tmp_path).returncode == 0
    before = sorted(tmp_path.rglob("*"))
    done = reelweave("plan", "job.yaml", "--set", override, "--json", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert field in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_json_counts_the_work_and_names_what_would_be_quarantined(tmp_path: Path) -> None:
    write_clip(tmp_path / "videos" / "a.mp4")
    (tmp_path / "videos" / "empty.mp4").write_bytes(b"")
    assert reelweave("init", cwd=tmp_path).returncode == 0
    before = sorted(tmp_path.rglob("*"))
    done = reelweave("plan", "job.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert {name: found[name] for name in ("videos", "scenes", "chunks", "chunks_done", "frames")} == {
        "videos": 2,
        "scenes": 1,
        "chunks": 1,
        "chunks_done": 0,
        "frames": 12,
    }
    (rejected,) = found["rejected"]
    assert rejected["uri"] == str(tmp_path / "videos" / "empty.mp4")
    assert rejected["code"] == "empty"
    assert found["estimate"]["frames_left"] == 12
    knots = found["consistency"]["knots"]
    assert 2 <= knots <= 4
    assert found["consistency"] == {
        "sharing": "knots",
        "placed": "even",
        "knots": knots,
        "anchors": 2,
        "flash_frames": 0,
        "frames_per_knot": 12 / knots,
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_says_which_sharing_depends_on_the_cut_and_counts_what_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "videos" / "a.mp4")
    assert reelweave("init", cwd=tmp_path).returncode == 0
    found = {}
    for sharing in ("none", "chunk_first", "first_frame", "knots"):
        done = reelweave(
            "plan", "job.yaml", "--json", "--set", f"consistency.sharing={sharing}", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        found[sharing] = plan["estimate"]["references_left"]
        assert len(plan["warnings"]) == (sharing == "chunk_first")
    told = reelweave("plan", "job.yaml", "--set", "consistency.sharing=chunk_first", cwd=tmp_path)
    assert "warning: consistency.sharing: chunk_first depends on how the video is cut" in told.stderr
    assert (found["none"], found["chunk_first"], found["first_frame"]) == (0, 0, 1)
    assert found["knots"] >= 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SpecError("encode.crf: too high", field="encode.crf"), 2, "reelweave: encode.crf: too high"),
        (StoreError("s3://b: gone"), 1, "reelweave: s3://b: gone"),
        (SourceError("a.mp4: empty", code="empty"), 1, "reelweave: a.mp4: empty"),
        (KeyboardInterrupt(), 130, "reelweave: interrupted; run the same command again to resume"),
        (KeyError("x"), 1, f"reelweave: unexpected KeyError: 'x'; {HINT}"),
        (RuntimeError("a\nb"), 1, f"reelweave: unexpected RuntimeError: a; {HINT}"),
    ],
)
def test_every_way_to_fail_has_its_exit_code_and_one_line(
    error: BaseException, code: int, line: str, capsys, monkeypatch
) -> None:
    import typer

    monkeypatch.delenv("REELWEAVE_DEBUG", raising=False)

    def failing() -> int:
        raise error

    with pytest.raises(typer.Exit) as caught:
        guarded(failing)()
    assert caught.value.exit_code == code
    assert capsys.readouterr() == ("", f"{line}\n")


def test_an_error_that_a_worker_raised_reads_like_one_of_the_driver(capsys, monkeypatch) -> None:
    import typer
    from ray.exceptions import RayTaskError

    monkeypatch.delenv("REELWEAVE_DEBUG", raising=False)
    cause = SpecError("model: no such folder", field="model")
    wrapped = RayTaskError("prepare", "a long traceback", cause).as_instanceof_cause()

    def failing() -> int:
        raise wrapped

    with pytest.raises(typer.Exit) as caught:
        guarded(failing)()
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "reelweave: model: no such folder\n"


@pytest.mark.parametrize("command", ["status", "verify"])
def test_json_is_one_object_and_alone_on_stdout(tmp_path: Path, command: str) -> None:
    published_store(tmp_path / "out", quarantined=True)
    done = reelweave(command, str(tmp_path / "out"), "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    if command == "status":
        assert set(found) == {"done", "quarantined", "left", "videos"}
        assert set(found["videos"][0]) == {"video_uri", "status", "code", "error", "output_uri"}
    else:
        assert found == {"checked": 1, "bad": []}


def test_verify_exits_1_and_names_the_bad_video(tmp_path: Path) -> None:
    published_store(tmp_path / "out")
    (tmp_path / "out" / "videos" / "a.mp4").write_bytes(b"")
    done = RUNNER.invoke(app, ["verify", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["checked"] == 1
    assert found["bad"][0]["output_uri"] == str(tmp_path / "out" / "videos" / "a.mp4")
    plain = RUNNER.invoke(app, ["verify", str(tmp_path / "out")])
    assert "1 checked, 1 bad" in plain.stdout


def test_a_catalog_is_copied_verified_and_left_alone_by_the_next_run(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a.mp4")
    (tmp_path / "job.yaml").write_text(
        "name: a\nsource: in/*\noutput: out\nencode: {codec: copy}\ncluster: {address: local}\n"
    )
    done = reelweave("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/videos/a.mp4").read_bytes() == (tmp_path / "in/a.mp4").read_bytes()
    assert json.loads(reelweave("verify", "out", "--json", cwd=tmp_path).stdout) == {"checked": 1, "bad": []}
    again = reelweave("run", "job.yaml", cwd=tmp_path)
    assert again.returncode == 0
    assert "(1 before this run)" in again.stderr
    refused = reelweave("run", "job.yaml", "--set", "encode.container=mkv", cwd=tmp_path)
    assert refused.returncode == 2
    assert "encode.container: codec copy keeps every source's container" in refused.stderr


def test_status_without_json_is_for_people(tmp_path: Path) -> None:
    published_store(tmp_path / "out", left=("/in/late.mp4",), quarantined=True)
    done = RUNNER.invoke(app, ["status", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "1 done, 1 quarantined, 1 left",
        "quarantined /in/bad.mp4: no_moov: bad.mp4 was cut off",
        "left        /in/late.mp4",
    ]


@pytest.mark.parametrize("command", ["status", "verify", "report", "clean"])
def test_commands_on_an_output_that_is_not_there_exit_2(tmp_path: Path, command: str) -> None:
    done = RUNNER.invoke(app, [command, str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "no job has written here" in done.stderr


def test_an_endpoint_that_does_not_answer_exits_2_and_names_it() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = reelweave("status", "s3://bucket/out", "--endpoint-url", "http://127.0.0.1:9", "--json", **keys)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_of_libraries_and_children_is_kept_off_stdout() -> None:
    code = (
        "import os, sys\n"
        "from jobs.console import quiet_stdout, print_json\n"
        "with quiet_stdout():\n"
        "    print('library'); os.system('echo child'); os.write(1, b'descriptor\\n')\n"
        "print_json({'a': 1})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == '{"a": 1}\n'
    assert set(done.stderr.split()) == {"library", "child", "descriptor"}


def test_stdout_comes_back_after_a_failure(capsys) -> None:
    with pytest.raises(ValueError, match="inside"), quiet_stdout():
        raise ValueError("inside")
    print("after")
    assert capsys.readouterr().out == "after\n"


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    code = (
        "import sys, jobs.cli\n"
        "heavy = ('torch', 'av', 'ray', 'cv2', 'operators', 'diffusers', 's3fs', 'pyarrow')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
    assert time.monotonic() - begun < 10


def test_help_names_every_command() -> None:
    done = RUNNER.invoke(app, ["--help"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    for command in ("demo", "init", "plan", "run", "status", "verify", "report", "clean"):
        assert command in done.stdout


def test_a_run_that_is_terminated_outside_its_work_ends_as_an_interrupted_one() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
