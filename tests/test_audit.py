"""The audit of dependencies: what it says of what pip-audit says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
AUDIT = ROOT / "infra" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", AUDIT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


CLEAN = {"name": "av", "version": "18.1.0", "vulns": []}
UNKNOWN = {"name": "x", "version": "1", "skip_reason": "Dependency not found on PyPI"}
FLAWED = {
    "name": "y",
    "version": "2",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}],
}


def test_a_known_vulnerability_fails_the_check_and_is_named_with_its_fix(audit: Any) -> None:
    code, text = audit.verdict(said(CLEAN, FLAWED, UNKNOWN), "")
    assert code == 1
    assert "y 2: CVE-2026-1, fixed in 2.1" in text


def test_no_known_vulnerability_passes_and_says_how_many_were_looked_up(audit: Any) -> None:
    assert audit.verdict(said(CLEAN, UNKNOWN), "") == (
        0,
        "audit: no known vulnerability in 1 packages, 1 not in the database",
    )


@pytest.mark.parametrize("stdout", ["", "not json", "[]", said(UNKNOWN)])
def test_without_a_database_the_audit_is_skipped_in_one_line_and_not_passed_off(
    audit: Any, stdout: str
) -> None:
    code, text = audit.verdict(stdout, "Traceback\nrequests.exceptions.ConnectionError: refused")
    assert code == 0
    assert text.startswith("audit skipped: ")
    assert "\n" not in text


def test_without_pip_audit_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import runpy; runpy.run_path({str(AUDIT)!r}, run_name='__main__')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("audit skipped: pip-audit is not installed")


def test_every_pin_is_exact() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", pin) for pin in pins)
    assert "pip-audit==" in "\n".join(pins)
