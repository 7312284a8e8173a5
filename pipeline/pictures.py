"""The pictures a job names: style references and inpainting masks, read once by the driver; and mask videos,
of which the driver reads the index alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from pipeline.enhancer_config import EnhancerConfig
from pipeline.errors import ReelweaveError, SpecError
from pipeline.filesystem import open_filesystem
from pipeline.mask_clips import MaskClip, MaskSize, is_picture, load_mask_clip
from pipeline.settings import JobSettings
from pipeline.style_pictures import StylePictures, load_style

Picture = np.ndarray[Any, Any]

#: No picture is read whole beyond this.
_MOST_BYTES = 512 << 20


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures by index in ``enhance``: ``styles``, ``masks`` uint8 [H, W] with 0 where there is a
    hole, and the SHA-256 of each file (of all files of a style and their weights). ``clips``: masks that are
    videos."""

    styles: Mapping[int, StylePictures] = field(default_factory=dict)
    masks: Mapping[int, Picture] = field(default_factory=dict)
    digests: Mapping[int, str] = field(default_factory=dict)
    clips: Mapping[int, MaskClip] = field(default_factory=dict)

    @property
    def mask_digests(self) -> tuple[str, ...]:
        """Digests of the masks, in order of their stages."""
        return tuple(self.digests[number] for number in sorted((*self.masks, *self.clips)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was converted while references were read, a sentence each."""
        return tuple(note for number in sorted(self.styles) for note in self.styles[number].notes)

    @property
    def mask_sizes(self) -> dict[int, MaskSize]:
        """How large each mask is, and how long."""
        pictures = {number: MaskSize(*mask.shape) for number, mask in self.masks.items()}
        return {**pictures, **{number: clip.size for number, clip in self.clips.items()}}

    def enhancer_config(self, settings: JobSettings, device: str) -> EnhancerConfig | None:
        """The actors' configuration; None for a job that only re-encodes."""
        if not settings.enhance:
            return None
        return EnhancerConfig(
            model=settings.model,
            precision=settings.precision,
            autoencoder=settings.autoencoder,
            device=device,
            enhance=settings.enhance,
            consistency=settings.consistency,
            seed=settings.seed,
            torch_threads=settings.torch_threads,
            masks=dict(self.masks),
        )


def load_pictures(settings: JobSettings) -> Pictures:
    """Read every picture ``enhance`` names. Raises SpecError naming the field."""
    styles: dict[int, StylePictures] = {}
    masks: dict[int, Picture] = {}
    digests: dict[int, str] = {}
    clips: dict[int, MaskClip] = {}
    for number, item in enumerate(settings.enhance):
        if "stylize" in item:
            where = f"enhance.{number}.stylize.reference"
            style = load_style(item["stylize"], where, lambda uri, field: _read(uri, field, settings))
            if style is not None:
                styles[number], digests[number] = style, style.digest
        mask = item.get("restore", {}).get("degradation", {}).get("mask")
        if mask:
            where = f"enhance.{number}.restore.degradation.mask"
            if not is_picture(mask):
                clips[number] = load_mask_clip(mask, where, settings)
                digests[number] = clips[number].video.source_digest
                continue
            data = _read(mask, where, settings)
            # In the file white marks what is to be filled; operators keep what is non-zero.
            holes = _decode(data, cv2.IMREAD_GRAYSCALE, where) > 127
            if holes.all():
                raise SpecError(
                    f"{where}: it is white all over, and nothing is left to fill the holes from; white marks "
                    "what is to be filled, black what is kept",
                    field=where,
                )
            masks[number] = np.where(holes, 0, 255).astype(np.uint8)
            digests[number] = hashlib.sha256(data).hexdigest()
    return Pictures(styles, masks, digests, clips)


def _read(uri: str, where: str, settings: JobSettings) -> bytes:
    try:
        filesystem, path = open_filesystem(uri, settings.storage)
        size = filesystem.size(path) or 0
        if size > _MOST_BYTES:
            raise SpecError(
                f"{where}: {uri} has {size >> 20} MiB, too many for a picture; give one below "
                f"{_MOST_BYTES >> 20} MiB",
                field=where,
            )
        return bytes(filesystem.cat_file(path))
    except ReelweaveError:
        raise
    except Exception as error:
        raise SpecError(
            f"{where}: {uri} cannot be read ({type(error).__name__}); check the path", field=where
        ) from error


def _decode(data: bytes, flags: int, where: str) -> Picture:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        raise SpecError(f"{where}: not a picture that OpenCV reads; give a PNG or JPEG", field=where)
    return np.asarray(picture)
