"""`bench acceleration`: what each way of doing less saves, and what it costs in pictures.

Every option is run through the Enhancer that jobs use, in turns with the same job without it: frames of the
bundled clip that share nothing, one thread, the embedded model. `to_plain_db` is the PSNR between the two,
`restored_db` that to the truth (the job without it: `plain_db`); `calls` counts network calls per frame, and
`whole` those of them that ran the deep blocks, replayed references among them.

The embedded model reads no text, so guidance is measured with a stand-in: a prompt whose tokens are the null
condition and keyed noise. It shows what an interval saves and how far it moves pictures; it restores nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.clips import first_frames
from jobs.bench.consistency_policies import Clip, Policy, enhancer_of, render_chunks
from jobs.bench.naive import DEGRADATION, db, halved_and_noisy
from jobs.bench.race import race
from jobs.bench.result import BenchResult
from jobs.bench.samples import Sample
from jobs.bench.style_scores import bundled_reference
from jobs.bench.threads import one_thread
from jobs.console import say
from jobs.demo.demo import REFERENCE, TRUTH
from jobs.enhance_spec import Enhancement
from pipeline.settings import Autoencoder, ConsistencySettings

if TYPE_CHECKING:
    from pipeline.enhancer import Enhancer

Frames = NDArray[np.uint8]
Item = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """Frames of the clip, the side of their centre squares in pixels, restored, and turns of each."""

    frames: int
    side: int
    repeats: int


FULL, QUICK = Size(8, 96, 5), Size(4, 64, 3)
RESTORE: Item = {"degradation": DEGRADATION, "solver": {"name": "diffpir"}}
LONG: Item = {"degradation": DEGRADATION, "solver": {"name": "diffpir", "steps": 50, "strength": 0.4}}
STYLIZE: Item = {"reference": str(REFERENCE), "method": {"name": "style_aligned", "steps": 25}, "depth": 0.6}
PROMPT: Item = {**LONG, "prompt": "stand-in", "guidance": 3.0}


@dataclass(frozen=True)
class Option:
    """What is added to the ``item`` that ``job`` names, or set beside it."""

    name: str
    job: str
    item: Item
    added: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: Autoencoder = "vae"


def _cache(every: int) -> Item:
    return {"acceleration": {"deepcache": {"every": every}}}


_INTERVAL = {"guidance_interval": [0.0, 0.6]}
_TOLD = "diffpir with a stand-in prompt"
OPTIONS = (
    Option("autoencoder analytic", "diffpir, 6 of 20 steps", RESTORE, autoencoder="analytic"),
    Option("deepcache 2", "diffpir, 6 of 20 steps", RESTORE, _cache(2)),
    *(
        Option(f"deepcache {every}", job, item, _cache(every))
        for job, item in (("diffpir, 20 of 50 steps", LONG), ("style_aligned, 15 of 25 steps", STYLIZE))
        for every in (2, 3, 5)
    ),
    Option("interval [0, 0.6]", _TOLD, PROMPT, _INTERVAL),
    Option("interval [0, 0.6], deepcache 2", _TOLD, PROMPT, {**_INTERVAL, **_cache(2)}),
)
#: Without the longest intervals.
QUICK_OPTIONS = tuple(option for option in OPTIONS if option.name != "deepcache 5")


def run(quick: bool) -> BenchResult:
    """All options; ``quick`` takes fewer and smaller frames and leaves out the longest intervals."""
    size, options = (QUICK, QUICK_OPTIONS) if quick else (FULL, OPTIONS)
    square = Sample("clip", first_frames(TRUTH, size.frames)).square(size.side)
    assert square is not None, "the bundled clip is larger"
    with one_thread():
        rows = tuple(option_row(option, square.frames, size.repeats) for option in options)
    return BenchResult("acceleration", rows, ())


def option_row(option: Option, truth: Frames, repeats: int) -> dict[str, Any]:
    """``option`` on frames [n, h, w, 3], in turns with its item without it: speed-up, PSNR of both."""
    say(f"{option.job}: {option.name}")
    restoring = "solver" in option.item
    source = halved_and_noisy(truth) if restoring else truth
    plain = _Contender(validated(option.item), "vae", source)
    ours = _Contender(validated({**option.item, **option.added}), option.autoencoder, source)
    found = race(ours.render, plain.render, repeats)
    for contender in (ours, plain):
        contender.enhancer.close()
    return {
        "job": option.job,
        "option": option.name,
        "times_faster": round(1.0 / found.ratio, 3),
        "times_faster_cpu": round(1.0 / found.cpu_ratio, 3),
        "calls": ours.calls_per_frame(),
        "whole": ours.whole_per_frame(),
        "plain_calls": plain.calls_per_frame(),
        "to_plain_db": round(db(ours.made, plain.made), 2),
        "restored_db": round(db(ours.made, truth), 2) if restoring else None,
        "plain_db": round(db(plain.made, truth), 2) if restoring else None,
    }


def validated(item: Item) -> Item:
    """A whole item as jobs have it, or the reason why they refuse it."""
    action = "restore" if "solver" in item else "stylize"
    return Enhancement.model_validate({action: copy.deepcopy(item)}).to_dict()


class _Contender:
    """One job on the clip; ``made`` are its latest pictures."""

    def __init__(self, item: Item, autoencoder: Autoencoder, source: Frames) -> None:
        how = replace(ConsistencySettings(), sharing="none")
        self.enhancer = enhancer_of(Policy("none", {}), (item,), how, {}, autoencoder=autoencoder)
        self.frames, self.made = len(source), source
        self._clip = Clip("bundled", len(source), lambda ordinals: source[list(ordinals)])
        self._turns = self._calls = self._whole = 0
        if "stylize" in item:
            self.enhancer.adopt({0: self.enhancer.style(0, bundled_reference())})
        if item.get("restore", {}).get("prompt"):
            _read_stand_ins(self.enhancer)
        network = self.enhancer.model.unet
        network.register_forward_pre_hook(self._called)
        network.mid_block.register_forward_pre_hook(self._ran_whole)

    def render(self) -> None:
        self._turns += 1
        self.made = np.concatenate(
            list(render_chunks(self.enhancer, self._clip, self.enhancer.config.consistency))
        )

    def calls_per_frame(self) -> float:
        return round(self._calls / (self._turns * self.frames), 2)

    def whole_per_frame(self) -> float:
        return round(self._whole / (self._turns * self.frames), 2)

    def _called(self, *_: Any) -> None:
        self._calls += 1

    def _ran_whole(self, *_: Any) -> None:
        self._whole += 1


def _read_stand_ins(enhancer: Enhancer) -> None:
    """Let the model read a prompt as the null condition and noise of a tenth of its length."""
    from operators.noise import keyed_normal
    from operators.text_encoders import Conditioning

    null = enhancer.model.condition("").tokens
    noise = keyed_normal(tuple(null.shape), "bench acceleration", "prompt").to(null)

    class StandIn:
        def encode(self, prompt: str) -> Conditioning:
            return Conditioning(null + 0.1 * float(null.std()) * noise if prompt else null)

    enhancer.model.text = StandIn()
