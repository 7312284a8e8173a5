"""`make audit`: looks up the pinned packages among published vulnerabilities.

Ends with 1 when one of them has a known vulnerability. Without pip-audit, or where its database cannot be
reached, it says so in one line and ends with 0: a check that needs a network must not stop work without one.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


def verdict(stdout: str, stderr: str) -> tuple[int, str]:
    """Exit code and what to print, from what pip-audit printed (``--format json``)."""
    try:
        packages = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
        return 0, f"audit skipped: the database of vulnerabilities cannot be reached ({last[:200]})"
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return 0, f"audit skipped: the database that answers here knows none of {len(packages)} packages"
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}"
        + (f", fixed in {' or '.join(flaw['fix_versions'])}" if flaw.get("fix_versions") else "")
        for package in known
        for flaw in package.get("vulns", [])
    ]
    if found:
        return 1, "\n".join(["audit: known vulnerabilities; raise the pins in constraints.txt", *found])
    unknown = len(packages) - len(known)
    return 0, f"audit: no known vulnerability in {len(known)} packages, {unknown} not in the database"


def main() -> int:
    if importlib.util.find_spec("pip_audit") is None:
        print("audit skipped: pip-audit is not installed (make installs it in .venv)")
        return 0
    how = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "10"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--format", "json", *how],
        capture_output=True,
        text=True,
        check=False,
    )
    code, text = verdict(asked.stdout, asked.stderr)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
