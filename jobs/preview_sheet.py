"""The contact sheet of a preview: rows are frames, columns are before and after at each strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.frames import jpeg_uri
from jobs.report import render
from jobs.report_page import Moment, Picture
from operators.metrics.gradient_ssim import gradient_ssim
from operators.metrics.lab_histogram import chi_square, lab_histogram, mixed_histogram
from pipeline.errors import SpecError
from pipeline.pictures import load_pictures
from pipeline.preview import PreviewRow
from pipeline.settings import JobSettings

Rgb = NDArray[np.uint8]

#: Pixels: the width of a picture, the strip of text above it, the gap between two.
WIDTH, TEXT, GAP = 320, 20, 4
_INK, _PAPER = (40, 40, 40), 255
_NOTE = (
    "Every frame is computed alone. In a run frames also read anchors and knots of their scene, "
    "which makes them agree."
)


@dataclass(frozen=True)
class SheetCell:
    """One picture of the sheet and what was measured of it: ``style`` is the chi-square distance of Lab
    histograms to the reference (0 equal, 1 disjoint), ``content`` the gradient SSIM with the frame before (1:
    equal drawings); None where there is no reference."""

    title: str
    picture: Rgb
    facts: dict[str, Any]


@dataclass(frozen=True)
class SheetRow:
    """One frame: ``caption`` and the cells, before first."""

    caption: str
    cells: tuple[SheetCell, ...]
    about: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**self.about, "cells": [cell.facts for cell in self.cells[1:]]}


class Judge:
    """Measures frames against the reference pictures of a job."""

    def __init__(self, settings: JobSettings) -> None:
        styles = load_pictures(settings).styles
        self._references = {n: mixed_histogram(style.pictures, style.weights) for n, style in styles.items()}

    def row(self, found: PreviewRow) -> SheetRow:
        """One row of the sheet."""
        before = _eight_bit(found.before)
        start = self._distance(found, before)
        cells = [SheetCell("before" + _told(start, None), before, {})]
        for cell in found.cells:
            after = _eight_bit(cell.picture)
            distance = self._distance(found, after)
            same = _resized(before, after.shape[1], after.shape[0])
            content = None if distance is None else gradient_ssim(after, same)
            name = "after" if cell.strength is None else f"strength {cell.strength:g}"
            title = f"{name}{' (the job)' if cell.jobs else ''}{_told(distance, content)}"
            facts = {
                "strength": cell.strength,
                "job": cell.jobs,
                "style_distance": None if distance is None else round(distance, 4),
                "gradient_ssim": None if content is None else round(content, 4),
                "compute_seconds": cell.seconds,
            }
            cells.append(SheetCell(title, after, facts))
        about = {
            "video_uri": found.uri,
            "frame": found.ordinal,
            "scene": found.scene,
            "seconds": found.seconds,
            "style_distance_before": None if start is None else round(start, 4),
        }
        name = found.uri.rpartition("/")[2]
        caption = f"{name}, {found.seconds:g} s (frame {found.ordinal}, scene {found.scene})"
        return SheetRow(caption, tuple(cells), about)

    def _distance(self, found: PreviewRow, picture: Rgb) -> float | None:
        if found.reference is None or found.reference not in self._references:
            return None  # a stage that follows a prompt has no picture to be near to
        return chi_square(lab_histogram(picture), self._references[found.reference])


def write_sheet(out: Path, settings: JobSettings, rows: Sequence[SheetRow]) -> tuple[str, str]:
    """Write NAME.html (self-contained) and NAME.png; their paths. Raises SpecError, field ``--out``."""
    page, picture = out / f"{settings.name}.html", out / f"{settings.name}.png"
    moments = tuple(
        Moment(row.caption, tuple(Picture(cell.title, jpeg_uri(cell.picture)) for cell in row.cells))
        for row in rows
    )
    html = render("preview.html.j2", title=settings.name, note=_NOTE, moments=moments)
    try:
        out.mkdir(parents=True, exist_ok=True)
        page.write_text(html, encoding="utf-8", errors="replace")
        picture.write_bytes(cv2.imencode(".png", contact_sheet(rows)[..., ::-1])[1].tobytes())
    except OSError as error:
        raise SpecError(f"--out: {out} cannot be written: {error.strerror}", field="--out") from None
    return str(page), str(picture)


def contact_sheet(rows: Sequence[SheetRow]) -> Rgb:
    """All rows as one picture RGB [H, W, 3]: captions, and the cells side by side."""
    columns = max(len(row.cells) for row in rows)
    strips = [_strip(row, columns) for row in rows]
    return np.concatenate(strips)


def _strip(row: SheetRow, columns: int) -> Rgb:
    tall, wide = row.cells[0].picture.shape[:2]
    height = max(1, round(WIDTH * tall / wide))
    strip = np.full((2 * TEXT + height + GAP, columns * (WIDTH + GAP), 3), _PAPER, np.uint8)
    _write(strip, row.caption, 0, 0)
    for column, cell in enumerate(row.cells):
        left = column * (WIDTH + GAP)
        _write(strip, cell.title, left, TEXT)
        strip[2 * TEXT : 2 * TEXT + height, left : left + WIDTH] = _resized(cell.picture, WIDTH, height)
    return strip


def _write(strip: Rgb, text: str, left: int, top: int) -> None:
    # OpenCV's letters are those of ASCII.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(strip, plain, (left + 2, top + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)


def _told(style: float | None, content: float | None) -> str:
    told = [] if style is None else [f"style {style:.2f}"]
    told += [] if content is None else [f"content {content:.2f}"]
    return f": {', '.join(told)}" if told else ""


def _resized(picture: Rgb, width: int, height: int) -> Rgb:
    if picture.shape[:2] == (height, width):
        return picture
    way = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)


def _eight_bit(picture: NDArray[Any]) -> Rgb:
    return picture if picture.dtype == np.uint8 else (picture >> 8).astype(np.uint8)
