"""Training the embedded model, whole: latent, autoencoder, prior, and the checkpoint folder they make."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from operators.errors import ModelError, TrainingError
from operators.klt import BlockKLT, fit_klt, load_klt
from operators.model_card import weight_digests
from operators.training import export, networks
from operators.training.autoencoder import AutoencoderTask
from operators.training.device import Precision
from operators.training.fit import Budget, Point, Task, fit
from operators.training.pictures import TrainingSet, as_signed, read_training_set
from operators.training.prior import PriorTask

PARTS = ("vae", "unet")
#: Share of the minutes that each part gets when several are trained.
SHARES = {"vae": 0.25, "unet": 0.75}
#: Iterations of each part per iteration of the prior.
ITERATION_SHARES = {"vae": Fraction(3, 2), "unet": Fraction(1)}
#: Pixels per batch: the autoencoder wants many steps, the prior, whose loss is noisier, large ones.
BATCH_PIXELS = {"vae": 65_536, "unet": 262_144}
WORK = "training"


@dataclass(frozen=True)
class TrainingSettings:
    """``pictures``: folder; ``out``: the checkpoint to write; ``start``: a checkpoint to go on from, or None
    to begin with fresh weights. The length is ``iterations`` of the prior, to which the autoencoder gets
    half as many again, or ``minutes`` for all parts.

    ``pixels``: pixels per batch, None for `BATCH_PIXELS`; ``wake``: new self-attention for a started
    prior; ``rate`` multiplies the learning rates, below 1 to go on gently from trained weights; ``threads``
    are fixed, since their number changes the last bits.
    """

    pictures: Path
    out: Path
    start: Path | None = None
    parts: tuple[str, ...] = PARTS
    iterations: int | None = None
    minutes: float | None = None
    seed: int = 0
    device: str = "cpu"
    bf16: bool = True
    threads: int = 1
    pixels: int | None = None
    wake: bool = False
    rate: float = 1.0
    report_every: float = 240.0
    save_every: float = 120.0
    breathe_every: float = math.inf


def train(
    settings: TrainingSettings, clock: Callable[[], float], report: Callable[[Point], None]
) -> dict[str, list[Point]]:
    """Train and write ``settings.out``; run again after a kill, it goes on from its last checkpoint. Returns
    the whole curve of each part.

    ``clock`` gives seconds. Raises TrainingError for pictures, folders, devices or checkpoints that cannot
    be used.
    """
    _check(settings)
    torch.set_num_threads(settings.threads)
    pictures = read_training_set(settings.pictures)
    klt, condition = _latent(settings, pictures)
    precision = Precision(settings.device, settings.bf16)
    facts: dict[str, Any] = {"pictures": len(pictures.training), "held_out": len(pictures.held_out)}
    facts["pictures_digest"] = pictures.digest
    curves: dict[str, list[Point]] = {}
    _keep_other_parts(settings)
    for part in settings.parts:
        task = _task(part, settings, pictures, klt, condition, precision)
        budget = Budget(
            None if settings.iterations is None else _iterations(part, settings.iterations),
            None if settings.minutes is None else 60.0 * settings.minutes * _share(part, settings.parts),
            settings.report_every,
            settings.save_every,
            settings.rate,
            settings.breathe_every,
        )
        with precision.deterministic():
            average, curves[part] = fit(task, budget, settings.out / WORK, clock, report)
        export.write_network(settings.out, part, average.cpu())
        facts[part] = {
            "iterations": curves[part][-1].iteration,
            "seconds": round(curves[part][-1].seconds),
            "start": None if settings.start is None else str(settings.start),
            "wake": settings.wake,
            "rate": settings.rate,
            "seed": settings.seed,
            "pixels": _pixels(part, settings),
            "device": settings.device,
            "bf16": settings.bf16,
            "threads": settings.threads,
        }
        export.write_card(settings.out, facts, {part: curves[part]})
    return curves


def _keep_other_parts(settings: TrainingSettings) -> None:
    """What is not trained comes from the start, so that ``out`` is a whole checkpoint."""
    for part in PARTS:
        if settings.start is None or part in settings.parts or (settings.out / part).exists():
            continue
        if (settings.start / part).is_dir():
            shutil.copytree(settings.start / part, settings.out / part)


def _check(settings: TrainingSettings) -> None:
    unknown = sorted(set(settings.parts) - set(PARTS))
    if unknown or not settings.parts:
        raise TrainingError(f"--part: {', '.join(unknown) or 'nothing'}; use {' or '.join(PARTS)}")
    if (settings.iterations is None) == (settings.minutes is None):
        raise TrainingError("give either --minutes or --iterations")
    if settings.iterations is not None and settings.iterations < 1:
        raise TrainingError("--iterations must be at least 1")
    if settings.minutes is not None and not 0 < settings.minutes < float("inf"):
        raise TrainingError("--minutes must be above 0")
    if settings.wake and settings.start is None:
        raise TrainingError("--wake needs --start-from: fresh weights are awake already")
    if not 0 < settings.rate <= 10:
        raise TrainingError("--rate must be above 0 and at most 10")
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError("--device cuda: torch sees no CUDA device here; use --device cpu")
    if settings.out.exists() and not settings.out.is_dir():
        raise TrainingError(f"{settings.out} is not a folder")
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{settings.out} cannot be made: {error.strerror}") from error
    if not os.access(settings.out, os.W_OK):
        raise TrainingError(f"{settings.out} cannot be written to")


def _iterations(part: str, of_prior: int) -> int:
    return max(1, round(of_prior * ITERATION_SHARES[part]))


def _pixels(part: str, settings: TrainingSettings) -> int:
    return BATCH_PIXELS[part] if settings.pixels is None else settings.pixels


def _share(part: str, parts: tuple[str, ...]) -> float:
    return SHARES[part] / sum(SHARES[p] for p in parts)


def _latent(settings: TrainingSettings, pictures: TrainingSet) -> tuple[BlockKLT, torch.Tensor]:
    """The latent of the start, else the one in ``out`` (an earlier part or run), else one fitted now; written
    to ``out``."""
    for folder in (settings.start, settings.out):
        path = None if folder is None else folder / export.LATENT_FILE
        if path is not None and path.exists():
            try:
                klt = load_klt(path)
                with safe_open(path, "pt") as handle:
                    values, condition = handle.get_tensor("eigenvalues"), handle.get_tensor("null_condition")
            except (ModelError, SafetensorError) as error:
                known = isinstance(error, ModelError)
                raise TrainingError(str(error) if known else f"{path} is incomplete: {error}") from error
            break
    else:
        if settings.start is not None:
            raise TrainingError(f"{settings.start} has no {export.LATENT_FILE}: it is no embedded model")
        whole = (p.levels[0] for p in pictures.training)
        cut = (as_signed([x[:, : x.shape[1] // 4 * 4, : x.shape[2] // 4 * 4]])[0] for x in whole)
        klt, values = fit_klt(cut, block=networks.BLOCK, channels=networks.CHANNELS)
        condition = torch.zeros(1, networks.CONDITION_TOKENS, networks.CONDITION_WIDTH)
    export.write_latent(settings.out, klt, values, condition)
    return klt, condition


def _task(
    part: str,
    settings: TrainingSettings,
    pictures: TrainingSet,
    klt: BlockKLT,
    condition: torch.Tensor,
    precision: Precision,
) -> Task:
    common: dict[str, Any] = {"seed": settings.seed, "precision": precision}
    common |= {"pixels": _pixels(part, settings), "origin": _origin(settings, part)}
    if part == "vae":
        network = networks.new_autoencoder(settings.start, settings.seed).to(settings.device)
        return AutoencoderTask(network, klt, pictures, **common)
    prior = networks.new_prior(settings.start, settings.seed, wake=settings.wake).to(settings.device)
    alphas = networks.scheduler().alphas_cumprod
    return PriorTask(prior, klt, condition, alphas, pictures, **common)


def _origin(settings: TrainingSettings, part: str) -> str:
    """Identifies the weights and the latent that ``part`` begins with."""
    if settings.start is None:
        return f"fresh {settings.rate}"
    files = {
        f: d for f, d in weight_digests(settings.start).items() if f.startswith((part, export.LATENT_FILE))
    }
    return hashlib.sha256(repr((sorted(files.items()), settings.wake, settings.rate)).encode()).hexdigest()
