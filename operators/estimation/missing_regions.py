"""What never changes in a film: black bars at its borders, and logos or boxes laid over it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from operators.estimation.frames import luma, require_frames

Box = tuple[int, int, int, int]

# Black bars: video black with a margin for noise, and no more than this share of a side.
BLACK = 26.0 / 255.0
WIDEST_BAR = 0.4
# Frames darker than this tell nothing about bars (fades).
DARK_FRAME = 0.08
FEWEST_FRAMES = 6
# A pixel stands still when it varies less than this over the frames, in noise deviations and at least.
STILL_NOISE = 2.5
STILL_LEAST = 3.0 / 255.0
# Around an overlay pixels vary by this many times as much, and film counts as moving when so much of it does.
MOVING = 3.0
MOVING_SHARE = 0.6
# An overlay covers at least and at most these shares of the picture, and this share of its bounding box.
SMALLEST_OVERLAY = 0.0002
LARGEST_OVERLAY = 0.1
FILLING = 0.25
# Gaps inside a logo that are bridged, and how far around it is looked, as shares of the height.
BRIDGE = 0.012
RING = 0.02


@dataclass(frozen=True)
class MissingRegions:
    """``bars``: rows and columns of black at top, bottom, left and right. ``boxes``: [x, y, width, height] of
    what stands still in front of moving film, largest first.

    ``moving``: the share of the picture inside the bars that moves; below ``MOVING_SHARE`` a logo cannot be
    told from a scene that stands still, and ``boxes`` is empty. ``confidence`` on [0, 1] of the boxes, and
    of there being no others.
    """

    bars: tuple[int, int, int, int]
    boxes: tuple[Box, ...]
    moving: float
    confidence: float


def find_missing_regions(frames: np.ndarray, noise: float = 0.0) -> MissingRegions:
    """Bars and static overlays of frames uint8 or uint16 [N, H, W, 3] taken from all over a film.

    Found are opaque overlays of constant look: channel logos, boxes over faces or text, burned-in clocks as
    far as their digits stand still. Not found: transparent or moving ones, single-frame dirt, scratches.
    ``noise``: standard deviation on [0, 1]. Fewer than ``FEWEST_FRAMES`` frames give bars alone. Raises
    OperatorError for another shape or type.
    """
    require_frames(frames)
    planes = luma(frames)
    bright = planes[planes.mean((1, 2)) > DARK_FRAME]
    bars = _bars(bright) if len(bright) >= 2 else (0, 0, 0, 0)
    if len(bright) < FEWEST_FRAMES:
        return MissingRegions(bars, (), 0.0, 0.0)
    top, bottom, left, right = bars
    height, width = planes.shape[1:]
    film = bright[:, top : height - bottom, left : width - right]
    change = film.std(0)
    least = max(STILL_NOISE * noise, STILL_LEAST)
    moving = float(np.mean(change > MOVING * least))
    if moving < MOVING_SHARE:
        return MissingRegions(bars, (), moving, 0.0)
    boxes = [(x + left, y + top, w, h) for x, y, w, h in _overlays(change, least)]
    ordered = sorted(boxes, key=lambda box: -box[2] * box[3])
    return MissingRegions(bars, tuple(ordered), moving, (moving - MOVING_SHARE) / (1.0 - MOVING_SHARE))


def _bars(planes: np.ndarray) -> tuple[int, int, int, int]:
    """Border rows and columns that are black in every frame; 0 for a side where there is no such limit."""
    brightest = planes.max(0)
    rows = np.quantile(brightest, 0.98, axis=1) > BLACK
    columns = np.quantile(brightest, 0.98, axis=0) > BLACK
    top, bottom = _run(rows), _run(rows[::-1])
    left, right = _run(columns), _run(columns[::-1])
    return top, bottom, left, right


def _run(bright: np.ndarray) -> int:
    """Length of the dark run at the beginning, 0 when it is too long for a bar."""
    dark = int(np.argmax(bright)) if bright.any() else len(bright)
    return dark if dark <= WIDEST_BAR * len(bright) else 0


def _overlays(change: np.ndarray, least: float) -> list[Box]:
    """Bounding boxes of compact still parts that are surrounded by moving film."""
    still = (change <= least).astype(np.uint8)
    reach = max(1, round(BRIDGE * change.shape[0]))
    bridged = cv2.morphologyEx(still, cv2.MORPH_CLOSE, _disk(reach))
    bridged = cv2.morphologyEx(bridged, cv2.MORPH_OPEN, _disk(1))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bridged, connectivity=8)
    found = []
    for label in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[label])
        share = area / change.size
        if not SMALLEST_OVERLAY <= share <= LARGEST_OVERLAY or area < FILLING * w * h:
            continue
        if _stands_out(change, labels == label, least):
            found.append((x, y, w, h))
    return found


def _stands_out(change: np.ndarray, part: np.ndarray, least: float) -> bool:
    """Whether what is around ``part`` moves, all along its outline: a logo ends abruptly, a sky does not."""
    reach = max(2, round(RING * change.shape[0]))
    grown = cv2.dilate(part.astype(np.uint8), _disk(reach))
    gap = cv2.dilate(part.astype(np.uint8), _disk(1))
    ring = (grown > 0) & (gap == 0)
    return bool(ring.any()) and float(np.mean(change[ring] > MOVING * least)) > 0.9


def _disk(radius: int) -> np.ndarray:
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
