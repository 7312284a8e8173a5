"""Masks that are videos: one mask per frame, for logos and faces that move, scratches and dust.

The driver looks at the index; frames are decoded on workers, in the ranges of the units that need them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from pipeline.commit import ChunkStore
from pipeline.errors import SourceError, SpecError
from pipeline.index_process import index_in_process
from pipeline.job_keys import index_key
from pipeline.settings import JobSettings
from pipeline.source_cache import node_cache
from pipeline.store import Store
from pipeline.video.geometry import as_upright_size
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.looks import LIGHTNESS_CELLS
from pipeline.video.rgb import decode_rgb
from pipeline.video.types import VideoIndex
from pipeline.work import VideoRef

Masks = np.ndarray[Any, Any]

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
#: Mean L* (0..255) that every cell of a frame exceeds when all of its pixels are above mid-grey, with margin.
_BRIGHT = 125


@dataclass(frozen=True)
class MaskSize:
    """Of one mask, in pixels; ``frames`` of a video, None for a picture that all frames share."""

    height: int
    width: int
    frames: int | None = None


@dataclass(frozen=True)
class MaskClip:
    """A video of masks, white where a frame has a hole, or is to be kept."""

    video: VideoRef
    index: VideoIndex

    @property
    def size(self) -> MaskSize:
        """Of upright frames."""
        shape = self.index.geometry
        width, height = as_upright_size(shape.width, shape.height, shape.display_matrix)
        return MaskSize(height, width, self.index.frames)

    def commit(self, chunks: ChunkStore) -> None:
        """Leave the index where workers find it."""
        facts = {"frames": self.index.frames}
        chunks.commit_bytes(self.video.index_key, ".index", index_to_bytes(self.index), facts)


def is_picture(uri: str) -> bool:
    """Whether a mask is a picture, by its name."""
    return os.path.splitext(urlsplit(uri).path if "://" in uri else uri)[1].lower() in _PICTURES


def load_mask_clip(uri: str, where: str, settings: JobSettings, *, may_be_white: bool = False) -> MaskClip:
    """Index a mask video, or read its committed index. Raises SpecError naming the field ``where`` for one
    that cannot be read and, unless a frame ``may_be_white`` all over, for one that hides a whole frame."""
    try:
        path, digest = node_cache(settings.storage).local_path(uri)
        video = VideoRef(uri, digest, index_key(digest, settings.limits, settings.video))
        chunks = ChunkStore(Store(settings.output, settings.storage))
        receipt = chunks.lookup(video.index_key)
        if receipt is not None:
            index = index_from_bytes(chunks.read(receipt))
        else:
            index = index_in_process(path, uri, settings.limits, digest, settings.video)
        hidden = None if may_be_white else _hidden_frame(path, index)
    except SourceError as error:
        raise SpecError(
            f"{where}: {error}; give a PNG or JPEG, or a video of one mask per frame", field=where
        ) from error
    if hidden is not None:
        raise SpecError(
            f"{where}: frame {hidden} of {uri} is white all over, and nothing is left to fill it from; white "
            "marks what is to be filled, black what is kept",
            field=where,
        )
    return MaskClip(video, index)


def decode_masks(path: str, index: VideoIndex, ordinals: Sequence[int]) -> Masks:
    """Masks uint8 [n, h, w] at strictly increasing ordinals: 0 where the video is brighter than mid-grey
    (holes to fill, regions to keep), else 255. Raises SourceError as `decode_rgb`."""
    pictures = decode_rgb(path, index, ordinals)
    holes = pictures.max(-1) > np.iinfo(pictures.dtype).max // 2
    return np.where(holes, 0, 255).astype(np.uint8)


def by_ordinal(masks: Mapping[int, Masks], ordinals: Sequence[int]) -> dict[int, dict[int, Masks]]:
    """Masks [n, h, w] of some frames, by the stage's number and then by ordinal."""
    return {number: dict(zip(ordinals, some, strict=True)) for number, some in masks.items()}


def _hidden_frame(path: str, index: VideoIndex) -> int | None:
    """The first frame that is a hole all over. Only frames that look bright are decoded."""
    bright = (index.looks.looks()[:, :LIGHTNESS_CELLS] > _BRIGHT).all(1)
    for ordinal in np.flatnonzero(bright).tolist():
        if not decode_masks(path, index, [ordinal]).any():
            return int(ordinal)
    return None
