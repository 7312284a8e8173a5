"""`reelweave bench NAME`: runs one benchmark, prints its table or JSON, keeps the JSON."""

from __future__ import annotations

import importlib
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jobs.bench import (
    consistency,
    cost,
    gops,
    identity,
    inversion,
    prior,
    restore,
    sharing,
    sheets,
    style_methods,
    video,
)
from jobs.bench.result import BenchResult
from jobs.console import DONE, FAILED, print_json, quiet_stdout, say, termination_interrupts
from pipeline.errors import SpecError


@dataclass(frozen=True)
class Benchmark:
    """``run`` takes whether to be quick, and by keyword: the folder ``pictures`` where one may or must be
    given, the folder ``figures`` if it ``draws``, the folder ``kept`` if it ``goes_on`` where it was
    interrupted, ``sections`` if it has any that can be run alone, the whole numbers that ``sizes`` names, and
    the job file ``job`` if it can be about one.
    """

    run: Callable[..., BenchResult]
    pictures: Literal["none", "optional", "required"] = "none"
    draws: bool = False
    goes_on: bool = False
    sections: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    of_job: bool = False


def _on_demand(module: str) -> Callable[..., BenchResult]:
    """``run`` of a module that is imported when it runs: benchmarks of whole jobs import what workers do, and
    other commands start without."""

    def run(quick: bool, **given: Any) -> BenchResult:
        result: BenchResult = importlib.import_module(f"jobs.bench.{module}").run(quick, **given)
        return result

    return run


BENCHMARKS: Mapping[str, Benchmark] = types.MappingProxyType(
    {
        "acceleration": Benchmark(_on_demand("acceleration")),
        "calibrate": Benchmark(_on_demand("calibrate"), draws=True, of_job=True),
        "consistency": Benchmark(consistency.run, pictures="optional", draws=True),
        "cost": Benchmark(cost.run),
        "gops": Benchmark(gops.run),
        "identity": Benchmark(identity.run),
        "inversion": Benchmark(inversion.run),
        "io": Benchmark(_on_demand("io")),
        "memory": Benchmark(_on_demand("memory")),
        "naive": Benchmark(_on_demand("naive")),
        "pipeline": Benchmark(_on_demand("whole_job")),
        "planning": Benchmark(_on_demand("planning"), sizes=("videos",)),
        "prior": Benchmark(prior.run, pictures="required"),
        "restore": Benchmark(restore.run, pictures="optional", sections=tuple(restore.SECTIONS)),
        "scaling": Benchmark(_on_demand("scaling")),
        "sharing": Benchmark(sharing.run, pictures="optional"),
        "sheets": Benchmark(sheets.run, draws=True),
        "soak": Benchmark(_on_demand("soak"), goes_on=True, sizes=("cycles", "videos", "seed")),
        "solvers": Benchmark(_on_demand("solvers")),
        "style": Benchmark(style_methods.run, pictures="optional"),
        "video": Benchmark(video.run, pictures="optional"),
    }
)
KEPT = Path("bench-out")
#: Characters in a line of a file; a terminal has its own width.
_WIDE = 240


def command(
    name: str,
    as_json: bool,
    quick: bool,
    pictures: Path | None = None,
    out: Path = KEPT,
    sections: Sequence[str] = (),
    sizes: Mapping[str, int | None] = types.MappingProxyType({}),
    job: Path | None = None,
) -> int:
    """Exit code 1 when a target does not hold. Raises SpecError for an unknown name, and for ``pictures``,
    ``sections``, ``sizes`` and ``job`` (None where not given) that are missing or not asked for."""
    from pipeline.job_keys import package_versions

    given = {size: number for size, number in sizes.items() if number is not None}
    measure = _measure(name, pictures, out, sections, given, job)
    with termination_interrupts(), quiet_stdout():
        result = measure(quick)
    options = f"{' --quick' if quick else ''}{f' --pictures {pictures}' if pictures else ''}"
    options += "".join(f" --section {section}" for section in sections)
    options += "".join(f" --{size} {number}" for size, number in given.items())
    options += f" --job {job}" if job else ""
    facts = result.to_json(f"reelweave bench {name}{options}", package_versions())
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{'-'.join([name, *sections])}.json").write_text(json.dumps(facts, indent=2) + "\n")
    if as_json:
        print_json(facts)
    else:
        _print_table(result)
    missed = [target.name for target in result.targets if not target.holds]
    for target in missed:
        say(f"target missed: {target}")
    return FAILED if missed else DONE


def listed(names: Iterable[str]) -> str:
    """The names in alphabetical order, as a sentence lists them."""
    return ", ".join(sorted(names))


def takers(takes: Callable[[Benchmark], object]) -> str:
    """The benchmarks of which ``takes`` holds, as a sentence lists them."""
    return listed(name for name, benchmark in BENCHMARKS.items() if takes(benchmark))


def sections_help() -> str:
    """Which parts can be run alone, by benchmark."""
    parts = (f"{name}: {', '.join(one.sections)}" for name, one in BENCHMARKS.items() if one.sections)
    return f"Run this part alone; may be repeated. {'; '.join(parts)}."


def _measure(
    name: str,
    pictures: Path | None,
    out: Path,
    sections: Sequence[str],
    sizes: Mapping[str, int],
    job: Path | None,
) -> Callable[[bool], BenchResult]:
    """What measures ``name``, given whether to be quick."""
    if name not in BENCHMARKS:
        raise SpecError(f"NAME: {name!r} is no benchmark; use one of {listed(BENCHMARKS)}", field="NAME")
    benchmark = BENCHMARKS[name]
    if pictures is None and benchmark.pictures == "required":
        raise SpecError(
            f"--pictures: bench {name} needs a folder of pictures; give --pictures DIR",
            field="--pictures",
        )
    if pictures is not None and benchmark.pictures == "none":
        _not_for(name, "--pictures", lambda one: one.pictures != "none")
    if sections and not benchmark.sections:
        _not_for(name, "--section", lambda one: one.sections)
    for size in sizes:
        if size not in benchmark.sizes:
            _not_for(name, f"--{size}", partial(_has_size, size=size))
    if job is not None and not benchmark.of_job:
        _not_for(name, "--job", lambda one: one.of_job)
    taken: dict[str, Any] = dict(sizes)
    if benchmark.of_job:
        taken["job"] = job
    if benchmark.pictures != "none":
        taken["pictures"] = pictures
    if benchmark.draws:
        taken["figures"] = out
    if benchmark.goes_on:
        taken["kept"] = out
    if benchmark.sections:
        taken["sections"] = tuple(sections)
    return partial(benchmark.run, **taken)


def _has_size(benchmark: Benchmark, size: str) -> bool:
    return size in benchmark.sizes


def _not_for(name: str, option: str, takes: Callable[[Benchmark], object]) -> None:
    raise SpecError(
        f"{option}: bench {name} takes none; leave it out, it is for {takers(takes)}", field=option
    )


def _print_table(result: BenchResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    for title, rows in {result.name: result.rows, **result.tables}.items():
        table = Table(title=title)
        for column in rows[0]:
            table.add_column(column)
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row.values()))
        console.print(table)
    for target in result.targets:
        answer = "yes" if target.holds else "NO"
        console.print(f"{target.name}: {target.value} (at least {target.bound}: {answer})")
