"""`reelweave bench NAME`: runs one benchmark, prints its table or JSON, keeps the JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from jobs.bench import gops, restoration
from jobs.bench.result import BenchResult
from jobs.console import DONE, FAILED, print_json, quiet_stdout, say
from pipeline.errors import SpecError

BENCHMARKS: dict[str, Callable[[bool], BenchResult]] = {"gops": gops.run, "restoration": restoration.run}
KEPT = Path("bench-out")


def command(name: str, as_json: bool, quick: bool) -> int:
    """Exit code 1 when a target does not hold. Raises SpecError for an unknown name."""
    from pipeline.job_keys import package_versions

    if name not in BENCHMARKS:
        known = ", ".join(sorted(BENCHMARKS))
        raise SpecError(f"NAME: {name!r} is no benchmark; use one of {known}", field="NAME")
    with quiet_stdout():
        result = BENCHMARKS[name](quick)
    facts = result.to_json(f"reelweave bench {name}{' --quick' if quick else ''}", package_versions())
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    if as_json:
        print_json(facts)
    else:
        _print_table(result)
    missed = [target.name for target in result.targets if not target.holds]
    for target in missed:
        say(f"target missed: {target}")
    return FAILED if missed else DONE


def _print_table(result: BenchResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=result.name)
    for column in result.rows[0]:
        table.add_column(column)
    for row in result.rows:
        table.add_row(*(str(value) for value in row.values()))
    console = Console()
    console.print(table)
    for target in result.targets:
        answer = "yes" if target.holds else "NO"
        console.print(f"{target.name}: {target.value} (at least {target.bound}: {answer})")
