"""`bench restore`: the solvers, against posteriors in closed form, classical methods and each other.

Sections, each of which can be run alone: `closed-forms` (a Gaussian against the specification's table, and
a mixture), every solver on pictures (`sr-x2`, `sr-x4`, `deblur`, `inpaint`, `denoise`), `clips` (in time),
`orders` (STSL against PSLD at counted evaluations), `gradients` (memory and time with recomputing on and off)
and, only when it is asked for, `defaults` (what other settings would give). Figures of a section do not
depend on which others run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.bench import restore_closed_forms, restore_gradients
from jobs.bench.clips import clips_below, first_frames
from jobs.bench.restore_clips import clip_rows
from jobs.bench.restore_defaults import default_rows
from jobs.bench.restore_orders import order_rows
from jobs.bench.restore_pictures import picture_rows, picture_targets
from jobs.bench.restore_tasks import tasks
from jobs.bench.result import BenchResult, Target
from jobs.bench.samples import Sample, evenly, read_samples
from jobs.bench.style_scores import shrunk_square
from jobs.bench.threads import one_thread
from jobs.demo.demo import TRUTH
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from jobs.bench.restore_samplers import Samplers

NAME = "restore"
Tables = dict[str, tuple[dict[str, Any], ...]]


@dataclass(frozen=True)
class _Size:
    """Pictures and their sides in pixels, frames of a clip and their side, chains of closed forms."""

    pictures: int
    side: int
    frames: int
    clip_side: int
    chains: int


FULL = _Size(4, 96, 8, 64, restore_closed_forms.CHAINS)
QUICK = _Size(2, 64, 4, 48, restore_closed_forms.QUICK_CHAINS)
#: Methods of a quick run's closed forms: those of few steps.
QUICK_METHODS = ("diffpir", "flowchef", "flowdps", "latino")


@dataclass(frozen=True)
class _Given:
    """What sections work on; ``model`` is loaded when it is first asked for."""

    size: _Size
    quick: bool
    pictures: Path | None
    model: Callable[[], Samplers]

    def samples(self) -> list[Sample]:
        """Centre squares of pictures of the folder, or frames of the bundled clip."""
        if self.pictures is None:
            frames = first_frames(TRUTH, 48)
            found = [Sample(f"bundled clip, frame {i}", frames[i : i + 1]) for i in range(len(frames))]
        else:
            # A few more than wanted, for some may be too small; a folder may hold hundreds.
            some = read_samples(self.pictures, limit=4 * self.size.pictures)
            found = [sample for sample in some if not sample.is_clip]
        squares = [square for sample in found if (square := sample.square(self.size.side)) is not None]
        if not squares:
            side = self.size.side
            raise SpecError(
                f"--pictures: none below {self.pictures} holds {side} x {side} pixels", field="--pictures"
            )
        return evenly(squares, self.size.pictures)

    def clips(self) -> list[Path]:
        """Clips of the folder; the bundled one where there are none."""
        below = [] if self.pictures is None else clips_below(self.pictures)
        return below or [TRUTH]


def run(quick: bool, pictures: Path | None = None, sections: Sequence[str] = ()) -> BenchResult:
    """``sections`` (all but `defaults` when empty) on a folder of pictures and clips, or the bundled clip.

    One thread throughout. Raises SpecError for an unknown section, and naming --pictures.
    """
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown:
        raise SpecError(
            f"--section: {unknown[0]!r} is no section of bench {NAME}; use {', '.join(SECTIONS)}",
            field="--section",
        )
    loaded: list[Samplers] = []

    def model() -> Samplers:
        from jobs.bench.restore_samplers import Samplers

        if not loaded:
            loaded.append(Samplers())
        return loaded[0]

    given = _Given(QUICK if quick else FULL, quick, pictures, model)
    tables: Tables = {}
    targets: list[Target] = []
    with one_thread():
        for name in sections or (QUICK_SECTIONS if quick else USUAL):
            made, bounds = SECTIONS[name](given)
            tables |= made
            targets += bounds
    first, *others = tables
    return BenchResult(NAME, tables[first], tuple(targets), {other: tables[other] for other in others})


def _closed_forms(given: _Given) -> tuple[Tables, list[Target]]:
    methods = QUICK_METHODS if given.quick else ()
    gaussian = restore_closed_forms.gaussian_rows(given.size.chains, methods)
    mixture = restore_closed_forms.mixture_rows(given.size.chains, methods)
    return (
        {"Gaussian posterior": tuple(gaussian), "two modes": tuple(mixture)},
        restore_closed_forms.closed_form_targets(gaussian),
    )


def _pictures(given: _Given, task: str) -> tuple[Tables, list[Target]]:
    rows = picture_rows(given.model(), given.samples(), task)
    return {task: tuple(rows)}, [] if given.quick else picture_targets(rows)


def _clips(given: _Given) -> tuple[Tables, list[Target]]:
    rows = []
    for path in given.clips():
        frames = shrunk_square(first_frames(path, given.size.frames), given.size.clip_side)
        rows += clip_rows(given.model(), path.stem, np.ascontiguousarray(frames))
    return {"clips": tuple(rows)}, []


def _orders(given: _Given) -> tuple[Tables, list[Target]]:
    return {"orders": tuple(order_rows(given.model(), given.samples()))}, []


def _gradients(given: _Given) -> tuple[Tables, list[Target]]:
    rows = restore_gradients.gradient_rows(quick=given.quick)
    return {"gradients": tuple(rows)}, [] if given.quick else restore_gradients.gradient_targets(rows)


def _defaults(given: _Given) -> tuple[Tables, list[Target]]:
    return {"defaults": tuple(default_rows(given.model(), given.samples()))}, []


SECTIONS: dict[str, Callable[[_Given], tuple[Tables, list[Target]]]] = {
    "closed-forms": _closed_forms,
    **{task: partial(_pictures, task=task) for task in tasks(FULL.side)},
    "clips": _clips,
    "orders": _orders,
    "gradients": _gradients,
    "defaults": _defaults,
}
USUAL = tuple(name for name in SECTIONS if name != "defaults")
QUICK_SECTIONS = ("closed-forms", "sr-x2", "gradients")
