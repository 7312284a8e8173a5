"""`bench sheets`: what each forward operator does to the bundled clip, and what restoring it gives back.

Per operator a picture damaged | restored | truth and a row of figures; the model was not trained on the clip.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.result import BenchResult, Target
from jobs.bench.sheet_cases import SheetCase, cases
from jobs.demo.degrade import psnr, read_clip
from jobs.demo.demo import TRUTH

Frames = NDArray[np.uint8]

#: What is cut from the clip: (top, left, height, width) of its 320x180, and the first frame.
CROP, FIRST = (26, 32, 128, 160), 16
#: Row offsets of the destriping sheet, standard deviation on [-1, 1].
STRIPES = 0.12
_TITLE, _GAP, _QUALITY = 16, 4, 85


def run(quick: bool, figures: Path) -> BenchResult:
    """Draw ``figures``/sheets/NAME.jpg; ``quick`` leaves out operators on clips."""
    from operators.models import BoundPrior, LatentModel

    prior = BoundPrior(LatentModel.from_pretrained("embedded", device="cpu", precision="fp32"))
    top, left, height, width = CROP
    clip = read_clip(TRUTH)[1][FIRST:, top : top + height, left : left + width]
    rows = []
    for name, case in cases().items():
        if quick and case.frames > 1:
            continue
        rows.append(_measured(name, case, clip[: case.frames], prior, figures / "sheets"))
    targets = tuple(
        Target(f"{row['sheet']}: gain on the damaged picture in dB", row["gain_db"], 0.0) for row in rows
    )
    return BenchResult("sheets", tuple(rows), targets)


def _measured(name: str, case: SheetCase, truth: Frames, prior: Any, folder: Path) -> dict[str, Any]:
    from operators.noise import FrameDraws, keyed_normal
    from operators.pictures import to_pictures, to_tensor
    from operators.solvers.base import restore
    from operators.solvers.registry import build_solver

    operator = case.build(truth.shape[1], truth.shape[2], len(truth))
    x = to_tensor(truth)
    measured = operator.simulate(
        x, [("bench sheets", name, n) for n in range(operator.measured_frames(len(x)))]
    )
    if name == "destriping":
        offsets = STRIPES * keyed_normal((1, 3, x.shape[2], 1), "bench sheets", "stripes")
        measured = x + offsets + measured - operator.apply(x)
    solver = build_solver(case.solver, operator, operator.noise_model.sigma, prior)
    cells = [side // prior.model.vae_factor for side in x.shape[2:]]
    noise = keyed_normal((len(x), prior.model.latent_channels, *cells), "bench sheets", "start")
    draws = FrameDraws(0, "bench sheets", 0, tuple(range(len(x))), 0.8, name)
    begun = time.monotonic()
    restored = to_pictures(restore(solver, measured, noise, prior, draws), truth.dtype)
    seconds = time.monotonic() - begun
    seen, classical = _shown(measured, truth), to_pictures(operator.classical(measured), truth.dtype)
    at = len(truth) // 2
    before, after = psnr(seen, truth), psnr(restored, truth)
    panels = {
        f"damaged {before:.1f} dB": seen[at],
        f"restored {after:.1f} dB": restored[at],
        f"truth: {name}": truth[at],
    }
    _write(folder / f"{name}.jpg", panels)
    return {
        "sheet": name,
        "operator": type(operator).__name__,
        "solver": case.solver["name"],
        "damaged_db": round(before, 2),
        "classical_db": round(psnr(classical, truth), 2),
        "restored_db": round(after, 2),
        "gain_db": round(after - before, 2),
        "seconds_per_frame": round(seconds / len(truth), 2),
    }


def _shown(measured: Any, truth: Frames) -> Frames:
    """Measurements as pictures of the truth's size and number: pixels and frames repeated, grey in three
    channels."""
    from operators.pictures import to_pictures

    pictures = to_pictures(measured.expand(-1, 3, -1, -1), truth.dtype)
    times = truth.shape[1] // pictures.shape[1]
    enlarged = pictures.repeat(times, axis=1).repeat(times, axis=2)
    return np.repeat(enlarged, len(truth) // len(enlarged), axis=0)


def _write(path: Path, panels: dict[str, Frames]) -> None:
    import cv2

    columns = []
    for title, picture in panels.items():
        bar = np.full((_TITLE, picture.shape[1], 3), 255, np.uint8)
        cv2.putText(bar, title, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
        columns += [
            np.vstack([bar, picture[..., ::-1]]),
            np.full((_TITLE + len(picture), _GAP, 3), 255, np.uint8),
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    written, jpeg = cv2.imencode(".jpg", np.hstack(columns[:-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not written:
        raise OSError(f"{path}: the sheet cannot be encoded")
    path.write_bytes(jpeg.tobytes())
