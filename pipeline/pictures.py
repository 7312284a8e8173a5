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
from pipeline.item_masks import ItemMask, mask_of
from pipeline.mask_clips import MaskClip, MaskSize, is_picture, load_mask_clip
from pipeline.settings import JobSettings
from pipeline.style_pictures import StylePictures, load_style

Picture = np.ndarray[Any, Any]

#: No picture is read whole beyond this.
_MOST_BYTES = 512 << 20


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures by index in ``enhance``: ``styles``, ``masks`` uint8 [H, W] with 0 where the file is
    white, and ``digests``, the SHA-256 of each style (its files and weights). ``clips``: masks that are
    videos; ``files`` the SHA-256 of each mask."""

    styles: Mapping[int, StylePictures] = field(default_factory=dict)
    masks: Mapping[int, Picture] = field(default_factory=dict)
    digests: Mapping[int, str] = field(default_factory=dict)
    clips: Mapping[int, MaskClip] = field(default_factory=dict)
    files: Mapping[int, str] = field(default_factory=dict)

    @property
    def mask_digests(self) -> tuple[str, ...]:
        """Digests of the masks, in order of their stages."""
        return tuple(self.files[number] for number in sorted(self.files))

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
            adapters=settings.adapters,
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
    mask_digests: dict[int, str] = {}
    for number, item in enumerate(settings.enhance):
        if "stylize" in item:
            where = f"enhance.{number}.stylize.reference"
            style = load_style(item["stylize"], where, lambda uri, field: _read(uri, field, settings))
            if style is not None:
                styles[number], digests[number] = style, style.digest
        mask = mask_of(item)
        if mask is not None:
            where = f"enhance.{number}.{mask.field}"
            if is_picture(mask.uri):
                data = _read(mask.uri, where, settings)
                masks[number] = _mask(_decode(data, cv2.IMREAD_GRAYSCALE, where), where, mask)
                mask_digests[number] = hashlib.sha256(data).hexdigest()
            else:
                # A frame of which everything is kept is an ordinary one; a frame that is all hole is not.
                clips[number] = load_mask_clip(mask.uri, where, settings, may_be_white="stylize" in item)
                mask_digests[number] = clips[number].video.source_digest
    return Pictures(styles, masks, digests, clips, mask_digests)


def _mask(grey: Picture, where: str, mask: ItemMask) -> Picture:
    """uint8 [H, W], 0 where ``grey`` is white."""
    white = grey > 127
    if white.all():
        raise SpecError(f"{where}: it is white all over, and {mask.whole}; {mask.white}", field=where)
    return np.where(white, 0, 255).astype(np.uint8)


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
