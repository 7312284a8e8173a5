"""How blurred frames are: the width of their strongest edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from operators.estimation.frames import luma, require_frames

# Edge width of sharp photographs and film in pixels: lens, sensor and scaling, not a defect.
SHARP_WIDTH = 0.66
# The first look blurs by these, and the second by multiples of what the first has found.
FIRST_SCALE = 1.0
LARGEST_SCALE = 6.0
# Share of edge pixels that count, strongest first, and how many there must be at least.
STRONGEST = 0.1
FEWEST_EDGES = 60
# Gradients below this many standard deviations of noise are no edges.
NOISE_MARGIN = 5.0


@dataclass(frozen=True)
class BlurEstimate:
    """``sigma``: standard deviation in pixels of the Gaussian blur beyond a sharp picture's own, 0 if none.

    ``edge_width``: that of the edges themselves. ``spread``: median absolute deviation between frames.
    ``confidence`` on [0, 1]: frames with enough edges, times the agreement of edges within them.
    """

    sigma: float
    edge_width: float
    spread: float
    confidence: float


def estimate_blur(frames: np.ndarray, noise: float = 0.0, keep: np.ndarray | None = None) -> BlurEstimate:
    """The median over frames uint8 or uint16 [N, H, W, 3] of the edge width of each.

    Blurring an edge of width s by a and by b = 2a lowers its slope by R = sqrt((s^2 + b^2) / (s^2 + a^2))
    (Zhuo and Sim 2011, eq. 6, with both pictures blurred so that noise counts less). Isotropic blur is
    assumed; a picture that is out of focus but for one object counts as sharp when the object has the
    strongest edges. ``noise``: standard deviation on [0, 1], as from ``estimate_noise``. ``keep``: bool
    [H, W], where to look (a logo is sharp whatever the film is). Raises OperatorError for another shape or
    type.

    Measured on 24 photographs (Kodak and CID22) blurred by 0, 1, 1.5, 2, 3, 4, 6 pixels: 0.22, 0.93, 1.40,
    1.88, 2.82, 3.79, 5.60 with standard deviations between pictures of 0.29, 0.18, 0.17, 0.17, 0.24, 0.29,
    0.45; with noise of 0.03 on top the widest come out as 3.6 and 4.7.
    """
    require_frames(frames)
    inside = np.ones(frames.shape[1:3], dtype=bool) if keep is None else keep
    found = [_frame_width(plane, inside, noise) for plane in luma(frames)]
    widths = np.array([width for width, _ in found if math.isfinite(width)])
    if widths.size == 0:
        return BlurEstimate(0.0, 0.0, 0.0, 0.0)
    width = float(np.median(widths))
    agreement = float(np.median([share for edge, share in found if math.isfinite(edge)]))
    sigma = math.sqrt(max(0.0, width**2 - SHARP_WIDTH**2))
    spread = float(np.median(np.abs(widths - width)))
    return BlurEstimate(sigma, width, spread, agreement * widths.size / len(frames))


def _frame_width(plane: np.ndarray, keep: np.ndarray, noise: float) -> tuple[float, float]:
    """Median edge width in pixels and the share of edges within half of it."""
    widths = _edge_widths(plane, keep, noise, FIRST_SCALE)
    if widths.size < FEWEST_EDGES:
        return math.nan, 0.0
    scale = min(max(FIRST_SCALE, float(np.median(widths)) / 2.0), LARGEST_SCALE)
    if scale > FIRST_SCALE:
        wider = _edge_widths(plane, keep, noise, scale)
        widths = wider if wider.size >= FEWEST_EDGES else widths
    middle = float(np.median(widths))
    return middle, float(np.mean(np.abs(widths - middle) <= 0.5 * max(middle, SHARP_WIDTH)))


def _edge_widths(plane: np.ndarray, keep: np.ndarray, noise: float, scale: float) -> np.ndarray:
    """Width in pixels at every strong edge of a plane [H, W], looked at with blurs ``scale`` and twice it."""
    fine, coarse = _gradient(plane, scale), _gradient(plane, 2.0 * scale)
    slope = np.hypot(*coarse)
    ridge = _ridges(coarse, slope) & _well_inside(keep, math.ceil(8.0 * scale))
    if np.count_nonzero(ridge) < FEWEST_EDGES:
        return np.empty(0, dtype=np.float32)
    # Standard deviation of one component of the blurred gradient of white noise: 1 / (sqrt(8 pi) b^2).
    noisy = noise / (math.sqrt(8.0 * math.pi) * (2.0 * scale) ** 2)
    strong = max(float(np.quantile(slope[ridge], 1.0 - STRONGEST)), NOISE_MARGIN * noisy, 1e-4)
    edge = ridge & (slope >= strong)
    along = (fine[0] * coarse[0] + fine[1] * coarse[1])[edge] / slope[edge] ** 2
    ratio = along[along > 1.0 + 1e-4] ** 2
    squared = ((2.0 * scale) ** 2 - ratio * scale**2) / (ratio - 1.0)
    return np.sqrt(np.maximum(squared, 0.0))


def _gradient(plane: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal and vertical central differences of the blurred plane."""
    smooth = cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1) / 2.0, cv2.Sobel(
        smooth, cv2.CV_32F, 0, 1, ksize=1
    ) / 2.0


def _ridges(gradient: tuple[np.ndarray, np.ndarray], slope: np.ndarray) -> np.ndarray:
    """Where the slope is largest across the edge."""
    middle = slope[1:-1, 1:-1]
    across = (middle >= slope[1:-1, :-2]) & (middle > slope[1:-1, 2:])
    down = (middle >= slope[:-2, 1:-1]) & (middle > slope[2:, 1:-1])
    steeper = (np.abs(gradient[0]) >= np.abs(gradient[1]))[1:-1, 1:-1]
    ridge = np.zeros(slope.shape, dtype=bool)
    ridge[1:-1, 1:-1] = np.where(steeper, across, down)
    return ridge


def _well_inside(keep: np.ndarray, margin: int) -> np.ndarray:
    """Pixels that are ``margin`` away from all others and from the border."""
    window = np.ones((2 * margin + 1, 2 * margin + 1), dtype=np.uint8)
    eroded = cv2.erode(keep.astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return eroded > 0
