"""How near frames are to a style, and how much of their drawing is left: what benchmarks of styles share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.demo.demo import REFERENCE

if TYPE_CHECKING:
    from operators.models import LatentModel

Frames = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StyleScores:
    """Means over frames: ``gram`` (distance of Gram matrices of the model's encoder) and ``lab`` (chi-square
    of Lab histograms, 0 equal, 1 disjoint) to the reference, ``gradients`` the gradient SSIM with the
    source."""

    gram: float
    lab: float
    gradients: float


def style_scores(
    model: LatentModel, pictures: Frames, source: Frames, reference: Frames | None
) -> StyleScores:
    """Scores of ``pictures`` [n, h, w, 3] made of ``source``; without a ``reference`` [H, W, 3] the source is
    what they are to be near to, frame by frame."""
    from operators.metrics.encoder_features import encoder_features
    from operators.metrics.gradient_ssim import gradient_ssim
    from operators.metrics.gram import gram_distance, gram_matrices
    from operators.metrics.lab_histogram import chi_square, lab_histogram
    from operators.pictures import to_tensor

    found = []
    for picture, own in zip(pictures, source, strict=True):
        target = own if reference is None else reference
        grams = [gram_matrices(encoder_features(model, to_tensor(x[None]))) for x in (picture, target)]
        lab = chi_square(lab_histogram(picture), lab_histogram(target))
        found.append((gram_distance(*grams), lab, gradient_ssim(picture, own)))
    gram, lab, gradients = np.mean(found, axis=0)
    return StyleScores(float(gram), float(lab), float(gradients))


def shrunk_square(frames: Frames, side: int) -> Frames:
    """[n, side, side, 3]: the shorter side shrunk (by area) to ``side``, the middle of the longer one."""
    import cv2

    height, width = frames.shape[1:3]
    size = [max(side, round(length * side / min(height, width))) for length in (width, height)]
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return np.ascontiguousarray(small[:, top : top + side, left : left + side])


def bundled_reference() -> Frames:
    """The demo's style picture at half its size, uint8 [H, W, 3]."""
    import cv2

    picture = cv2.imread(str(REFERENCE), cv2.IMREAD_COLOR)
    shrunk = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(shrunk, cv2.COLOR_BGR2RGB))
