"""A look at a job before it runs: a few frames under several strengths, computed here and kept nowhere.

Frames are enhanced alone, each with statistics of its own: no anchors, no knots. So a preview shows what
colours, texture and content become, and not how frames agree; that is what anchors and knots are for.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.auto_degradation import Item, Resolved, placed
from pipeline.catalog import CatalogEntry, output_extensions, resolve_catalog
from pipeline.commit import ChunkStore
from pipeline.enhance_fit import require_fit
from pipeline.enhancer_config import FrameTask
from pipeline.errors import SourceError, SpecError
from pipeline.job_plan import Rejected, index_here
from pipeline.mask_clips import decode_masks
from pipeline.model_fit import largest_side, require_model_fit
from pipeline.pictures import Pictures, load_pictures
from pipeline.plan import plan_video
from pipeline.scene_overrides import list_of, own_scenes, require_named_videos
from pipeline.settings import JobSettings
from pipeline.source_cache import node_cache
from pipeline.store import Store
from pipeline.video.geometry import as_upright_size
from pipeline.video.rgb import decode_rgb
from pipeline.video.types import VideoIndex
from pipeline.video_planner import growth
from pipeline.windows import couples_frames

if TYPE_CHECKING:
    from pipeline.enhancer import Enhancer

Frame = np.ndarray[Any, Any]

#: Videos that are shown when none is named.
MOST_VIDEOS = 3


@dataclass(frozen=True)
class Asked:
    """``video``: a pattern for the end of a path, None for the first few; ``at``: seconds from the video's
    start, None for ``frames`` frames spread evenly over it, else ``frames`` consecutive ones from there;
    ``strengths``: of its stylizations, one column each."""

    video: str | None = None
    at: float | None = None
    frames: int = 2
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Cell:
    """One enhanced frame, uint8 [H, W, 3] (or uint16); ``strength`` is None where nothing is stylized, and
    ``jobs`` tells whether the job itself asks for it. ``seconds`` it took."""

    strength: float | None
    jobs: bool
    picture: Frame
    seconds: float


@dataclass(frozen=True)
class PreviewRow:
    """One frame of a video at ``seconds`` from its start, before and after. ``reference``: the stage whose
    reference it is stylized with; None where it is not."""

    uri: str
    ordinal: int
    scene: int
    seconds: float
    before: Frame
    cells: tuple[Cell, ...]
    reference: int | None


@dataclass(frozen=True)
class _Video:
    """An indexed source: ``lists`` gives the ``enhance`` list of each scene."""

    uri: str
    source_digest: str
    index: VideoIndex
    path: str
    settings: JobSettings
    lists: tuple[Resolved, ...]
    scene_ranges: tuple[tuple[int, int], ...]

    def scene_of(self, ordinal: int) -> int:
        return next(n for n, (first, last) in enumerate(self.scene_ranges) if first <= ordinal < last)

    def seconds(self, ordinal: int) -> float:
        start, pts = self.index.pts[0], self.index.pts[ordinal]
        return float((pts - start) * self.index.time_base)


def preview_job(settings: JobSettings, asked: Asked) -> Iterator[PreviewRow | Rejected]:
    """The rows of the sheet as they are made, and what cannot be shown. Nothing is written.

    Raises SpecError before any work, naming the field.
    """
    for number, item in enumerate(settings.enhance):
        if couples_frames(item):
            raise SpecError(
                f"enhance.{number}.restore restores frames together, and a preview shows them one by one; "
                "run the job on a short clip instead",
                field=f"enhance.{number}.restore",
            )
    if not settings.enhance:
        raise SpecError("enhance: it is empty, so there is nothing to preview", field="enhance")
    store = Store(settings.output, settings.storage)
    store.check(write=False)
    catalog = resolve_catalog(
        settings.source, settings.output, settings.storage, output_extensions(settings.encode.codec)
    )
    require_named_videos(settings.scenes, [entry.uri for entry in catalog])
    shown = _shown(catalog, asked)
    pictures = load_pictures(settings)
    require_model_fit(settings)
    return _rows(settings, asked, shown, pictures, ChunkStore(store))


def _shown(catalog: Sequence[CatalogEntry], asked: Asked) -> list[CatalogEntry]:
    if asked.video is None:
        return list(catalog[:MOST_VIDEOS])
    wanted = asked.video
    found = [entry for entry in catalog if entry.uri == wanted or PurePosixPath(entry.uri).match(wanted)]
    if not found:
        raise SpecError(
            f"--video: {wanted!r} fits no source of the job; give the end of a path, such as film.mp4",
            field="--video",
        )
    return found


def _rows(
    settings: JobSettings,
    asked: Asked,
    shown: Sequence[CatalogEntry],
    pictures: Pictures,
    chunks: ChunkStore,
) -> Iterator[PreviewRow | Rejected]:
    enhancer = _enhancer(settings, pictures)
    try:
        for entry in shown:
            try:
                video = _video(entry, settings, pictures, chunks)
                for ordinal in _ordinals(video, asked):
                    yield _row(video, ordinal, asked, enhancer, pictures)
            except SourceError as error:
                yield Rejected(entry.uri, error.code, str(error))
    finally:
        enhancer.close()


def _enhancer(settings: JobSettings, pictures: Pictures) -> Enhancer:
    from pipeline.enhancement.device import device_here
    from pipeline.enhancer import Enhancer

    alone = replace(
        settings.consistency, sharing="none", merge=0.0, fusion=0.0, warp_noise=False, frames_per_batch=1
    )
    config = pictures.enhancer_config(replace(settings, consistency=alone), device_here())
    assert config is not None  # only for an empty list
    enhancer = Enhancer(config)
    enhancer.adopt(
        {
            number: enhancer.style(number, *style.pictures, weights=style.weights)
            for number, style in pictures.styles.items()
        }
    )
    return enhancer


def _video(entry: CatalogEntry, settings: JobSettings, pictures: Pictures, chunks: ChunkStore) -> _Video:
    found = index_here(entry, settings, chunks)
    if isinstance(found, SourceError):
        raise found
    video, index, estimate = found
    degradations = () if estimate is None else estimate.facts["degradations"]
    whole = Resolved(settings.enhance, tuple(range(len(settings.enhance))))
    jobs = whole if estimate is None else estimate.enhance
    own = own_scenes(settings.scenes, entry.uri, degradations)
    plan = plan_video(index, settings.consistency, growth(settings))
    lists = tuple(list_of(own, scene.number) or jobs for scene in plan.scenes)
    shape = index.geometry
    size = as_upright_size(shape.width, shape.height, shape.display_matrix)
    at_most = largest_side(settings.model) if settings.enhance else None
    for chosen in {id(one): one for one in lists}.values():
        require_fit(chosen.items, *size, placed(pictures.mask_sizes, chosen), index.frames, at_most)
    path, _ = node_cache(settings.storage).local_path(entry.uri)
    ranges = tuple((scene.first, scene.last) for scene in plan.scenes)
    return _Video(entry.uri, video.source_digest, index, path, settings, lists, ranges)


def _ordinals(video: _Video, asked: Asked) -> list[int]:
    frames = video.index.frames
    if asked.at is None:
        count = min(asked.frames, frames)
        return [(2 * at + 1) * frames // (2 * count) for at in range(count)]
    first = next((n for n in range(frames) if video.seconds(n) >= asked.at), None)
    if first is None:
        raise SourceError(
            f"{video.uri}: --at {asked.at:g} is behind its last frame, at {video.seconds(frames - 1):.3f} s",
            code="no_frame",
        )
    return list(range(first, min(first + asked.frames, frames)))


def _row(video: _Video, ordinal: int, asked: Asked, enhancer: Enhancer, pictures: Pictures) -> PreviewRow:
    scene = video.scene_of(ordinal)
    own = video.lists[scene]
    frame = decode_rgb(video.path, video.index, [ordinal])
    masks = {
        number: {ordinal: _mask(clip.video.uri, clip.index, ordinal, video.settings)}
        for number, clip in pictures.clips.items()
    }
    task = FrameTask(video.source_digest, scene, (ordinal,), placed(masks, own))
    stages = [number for number, item in enumerate(own.items) if "stylize" in item]
    strengths: tuple[float | None, ...] = asked.strengths if stages else (None,)
    cells = []
    for strength in strengths:
        items = _at_strength(own.items, strength)
        begun = time.monotonic()
        (made,) = enhancer.applying(items, own.origins).chunk(task, frame, (ordinal,), None, {})
        cells.append(Cell(strength, items == own.items, made, round(time.monotonic() - begun, 3)))
    reference = own.origins[stages[-1]] if stages else None
    return PreviewRow(
        video.uri, ordinal, scene, round(video.seconds(ordinal), 3), frame[0], tuple(cells), reference
    )


def _at_strength(items: tuple[Item, ...], strength: float | None) -> tuple[Item, ...]:
    changed = copy.deepcopy(items)
    for item in changed:
        if "stylize" in item and strength is not None:
            item["stylize"]["strength"] = strength
    return changed


def _mask(uri: str, index: VideoIndex, ordinal: int, settings: JobSettings) -> Frame:
    path, _ = node_cache(settings.storage).local_path(uri)
    (mask,) = decode_masks(path, index, [ordinal])
    return np.asarray(mask)
