"""The table of accelerations: what it runs are jobs, and what it counts is what they do."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.bench import acceleration
from jobs.bench.acceleration import OPTIONS, Option

TRUTH = np.random.default_rng(3).integers(60, 200, (1, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.job}: {option.name}")
def test_every_option_is_one_that_job_files_take(option: Option) -> None:
    ((_, item),) = acceleration.validated({**option.item, **option.added}).items()
    assert {name: item[name] for name in option.added} == dict(option.added)


def test_a_cache_halves_the_whole_calls_and_an_interval_leaves_calls_out() -> None:
    told = {**acceleration.PROMPT, "solver": {"name": "diffpir", "steps": 10, "strength": 0.5}}
    added = {"guidance_interval": [0.0, 0.6], "acceleration": {"deepcache": {"every": 2}}}
    row = acceleration.option_row(Option("both", "prompted", told, added), TRUTH, 1)
    # Five steps, three of them guided; full are 0, 2, 4 and, where guidance ends, 3.
    assert (row["plain_calls"], row["calls"], row["whole"]) == (10, 8, 6)
    assert 20.0 < row["to_plain_db"] < 100.0
