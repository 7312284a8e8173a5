"""`bench restore`, closed forms: samplers against the exact posteriors of a Gaussian and of a mixture."""

from __future__ import annotations

from typing import Any

from jobs.bench.result import Target
from jobs.console import say

#: Chains of a full run (the table has 4000) and of a quick one.
CHAINS, QUICK_CHAINS = 2000, 500
MIXTURE_SIGMA = 0.2
EXACT = "exact draws"

Row = dict[str, Any]


def gaussian_rows(chains: int, methods: tuple[str, ...] = ()) -> list[Row]:
    """Ours beside the table's figures for ``methods`` (all by default) and exact draws; ``outside`` says
    which figures lie outside their band."""
    from operators.closed_form.bias import exact_bias, measured_bias
    from operators.closed_form.expected import EXPECTED, off_the_table

    rows = []
    for sigma in (0.05, 0.3):
        rows.append(_gaussian_row(EXACT, sigma, vars(exact_bias(sigma, chains)), {}, ""))
    for (name, sigma), table in EXPECTED.items():
        if methods and name not in methods:
            continue
        say(f"Gaussian: {name}, noise {sigma}")
        found = measured_bias(name, sigma, chains)
        outside = "; ".join(off_the_table(found, table))
        rows.append(_gaussian_row(name, sigma, vars(found), vars(table), outside))
    return rows


def mixture_rows(chains: int, methods: tuple[str, ...] = ()) -> list[Row]:
    """Means off in standard deviations of the posterior, spread over the exact one's, share of the first
    mode: the specification has no figures for mixtures, the exact posterior is what they are held against."""
    from operators.closed_form.bias import DIMENSIONS, A, modes_found, sampled
    from operators.closed_form.expected import EXPECTED
    from operators.closed_form.mixture import two_modes

    prior = two_modes(DIMENSIONS)
    y = A.matrix @ prior.means[0]
    exact = prior.posterior(A, y, MIXTURE_SIGMA)
    drawn = exact.draw(chains).flatten(1)
    rows = [_mixture_row(EXACT, vars(modes_found(drawn, prior, exact)))]
    for name in dict.fromkeys(name for name, _ in EXPECTED):
        if methods and name not in methods:
            continue
        say(f"two modes: {name}")
        x = sampled(name, prior, y, MIXTURE_SIGMA, chains)
        rows.append(_mixture_row(name, vars(modes_found(x, prior, exact))))
    return rows


def closed_form_targets(rows: list[Row]) -> list[Target]:
    """All figures of all methods within their bands."""
    told = [row for row in rows if row["method"] != EXACT]
    inside = sum(row["outside"] == "" for row in told)
    return [Target("share of the table's rows within their bands", round(inside / len(told), 3), 1.0)]


def _gaussian_row(name: str, sigma: float, found: Row, table: Row, outside: str) -> Row:
    row: Row = {"method": name, "noise": sigma}
    for field in ("mean", "va", "vn", "residual"):
        row[field] = round(found[field], 3)
        row[f"{field} in table"] = table.get(field)
    return row | {"outside": outside}


def _mixture_row(name: str, found: Row) -> Row:
    return {"method": name, **{field: round(value, 3) for field, value in found.items()}}
