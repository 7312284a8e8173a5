"""Which mask an item of ``enhance`` names: the holes of an inpainting, or what a stylization keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ItemMask:
    """``field`` below the item, ``uri``, what ``white`` marks, and whether a mask that is white all over is
    no mask at all (``whole`` says why)."""

    field: str
    uri: str
    white: str
    whole: str


def mask_of(item: Mapping[str, Any]) -> ItemMask | None:
    """The mask of an item; None where it has none."""
    hole = item.get("restore", {}).get("degradation", {}).get("mask")
    if hole:
        return ItemMask(
            "restore.degradation.mask",
            hole,
            "white marks what is to be filled, black what is kept",
            "nothing is left to fill the holes from",
        )
    kept = item.get("stylize", {}).get("keep", {}).get("mask")
    if kept:
        return ItemMask(
            "stylize.keep.mask",
            kept,
            "white marks what is kept, black what is stylized",
            "nothing is left to stylize",
        )
    return None


def without_mask(item: dict[str, Any]) -> None:
    """Take the place of an item's mask out of it: its contents enter keys by digest."""
    item.get("restore", {}).get("degradation", {}).pop("mask", None)
    item.get("stylize", {}).get("keep", {}).pop("mask", None)
