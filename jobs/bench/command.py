"""`reelweave bench NAME`: runs one benchmark, prints its table or JSON, keeps the JSON."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from jobs.bench import consistency, cost, gops, identity, prior, restoration, sharing, soak, video
from jobs.bench.result import BenchResult
from jobs.console import DONE, FAILED, print_json, quiet_stdout, say
from pipeline.errors import SpecError

BENCHMARKS: dict[str, Callable[[bool], BenchResult]] = {
    "cost": cost.run,
    "gops": gops.run,
    "identity": identity.run,
    "restoration": restoration.run,
}
#: Benchmarks of a folder, given by --pictures; those of OWN_PICTURES need none.
OF_PICTURES: dict[str, Callable[..., BenchResult]] = {
    "consistency": consistency.run,
    "prior": prior.run,
    "sharing": sharing.run,
    "video": video.run,
}
OWN_PICTURES = {"consistency", "sharing", "video"}
#: Benchmarks sized by --cycles, --videos and --seed.
OF_CYCLES: dict[str, Callable[..., BenchResult]] = {"soak": soak.run}
#: Benchmarks that also draw; their figures lie beside the JSON.
DRAWING = {"consistency"}
NAMES = (*BENCHMARKS, *OF_PICTURES, *OF_CYCLES)
KEPT = Path("bench-out")
#: Characters in a line of a file; a terminal has its own width.
_WIDE = 240


def command(
    name: str,
    as_json: bool,
    quick: bool,
    pictures: Path | None = None,
    out: Path = KEPT,
    sizes: Mapping[str, int | None] = types.MappingProxyType({}),
) -> int:
    """Exit code 1 when a target does not hold. Raises SpecError for an unknown name, and for ``pictures`` or
    ``sizes`` (of cycles, videos and seed, None where not given) that are missing or not asked for."""
    from pipeline.job_keys import package_versions

    given = {option: size for option, size in sizes.items() if size is not None}
    measure = _benchmark(name, pictures, out, given)
    with quiet_stdout():
        result = measure(quick)
    options = f"{' --quick' if quick else ''}{f' --pictures {pictures}' if pictures else ''}"
    options += "".join(f" --{option} {size}" for option, size in given.items())
    facts = result.to_json(f"reelweave bench {name}{options}", package_versions())
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
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


def _benchmark(
    name: str, pictures: Path | None, out: Path, sizes: Mapping[str, int]
) -> Callable[[bool], BenchResult]:
    """What measures ``name``, given whether to be quick."""
    if sizes and name not in OF_CYCLES:
        option = f"--{next(iter(sizes))}"
        raise SpecError(
            f"{option}: leave it out for bench {name}; it is for {listed(OF_CYCLES)}", field=option
        )
    if name in OF_PICTURES:
        if pictures is None and name not in OWN_PICTURES:
            raise SpecError(
                f"--pictures: bench {name} needs a folder of pictures; give --pictures DIR",
                field="--pictures",
            )
        drawing = {"figures": out} if name in DRAWING else {}
        return partial(OF_PICTURES[name], pictures=pictures, **drawing)
    if name not in BENCHMARKS and name not in OF_CYCLES:
        raise SpecError(f"NAME: {name!r} is no benchmark; use one of {listed(NAMES)}", field="NAME")
    if pictures is not None:
        raise SpecError(
            f"--pictures: bench {name} takes none; leave it out, it is for {listed(OF_PICTURES)}",
            field="--pictures",
        )
    return partial(OF_CYCLES[name], **sizes) if name in OF_CYCLES else BENCHMARKS[name]


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
