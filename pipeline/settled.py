"""Videos that are finished and still are what was published: told without reading them again.

A rerun of a finished job asks storage a few questions per video and reads, decodes and computes nothing:

    the row that stands          says done, and names the result that this job would make; what was estimated
                                 of the source is in the row, and is the same for equal code and source
    the source                   is in the version that was hashed then
    the published object         is in the version whose digest was proven (`pipeline.proof`)
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.auto_degradation import resolved, wants_estimate
from pipeline.catalog import CatalogEntry, output_relative
from pipeline.errors import SourceError
from pipeline.job_keys import JobKeys
from pipeline.manifest import VideoRow, read_video_rows
from pipeline.proof import is_published
from pipeline.source_cache import SourceCache
from pipeline.store import Store

_READERS = 16


def settled_videos(
    catalog: Sequence[CatalogEntry],
    keys: Sequence[JobKeys],
    store: Store,
    sources: SourceCache,
    *,
    note: bool = True,
    all_or_none: bool = False,
) -> dict[str, VideoRow]:
    """Rows of the videos of ``catalog`` with which nothing is to be done, by URI. Raises StoreError.

    ``keys``: the job's, for each class of device on which a result is as good as any; what was finished on
    GPUs is not done again because a night's cluster has none. ``all_or_none``: where rows alone tell that
    something is to be done, sources and objects are not asked, and nothing is settled.
    """
    rows = {row.video_uri: row for row in read_video_rows(store)}
    wanted = [entry for entry in catalog if _is_wanted(entry, rows.get(entry.uri), keys)]
    if all_or_none and len(wanted) < len(catalog):
        return {}

    def is_settled(entry: CatalogEntry) -> bool:
        row = rows[entry.uri]
        return _version(sources, entry.uri) == row.source_version and is_published(store, row, note=note)

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(is_settled, wanted))
    return {entry.uri: rows[entry.uri] for entry, yes in zip(wanted, found, strict=True) if yes}


def _is_wanted(entry: CatalogEntry, row: VideoRow | None, keys: Sequence[JobKeys]) -> bool:
    """Whether the row's result is one that this job makes of the row's source."""
    if row is None or row.status != "done" or not row.source_version:
        return False
    container = row.output_rel.rpartition(".")[2]
    own = (keys_of_row(row, of_device) for of_device in keys)
    return row.output_rel == output_relative(entry, container) and any(
        row.video_key == one.video(row.source_digest, container) for one in own if one is not None
    )


def keys_of_row(row: VideoRow, keys: JobKeys) -> JobKeys | None:
    """``keys`` with the ``enhance`` lists of the row's video and scenes; None where it was to be estimated
    and the row does not say what was found."""
    if not wants_estimate(keys.settings.enhance):
        return keys.of_video(row.video_uri)
    estimate = row.metrics.get("estimate")
    if not estimate:
        return None
    degradations = estimate["degradations"]
    own = replace(keys, resolved=resolved(keys.settings.enhance, degradations).items)
    return own.of_video(row.video_uri, degradations)


def _version(sources: SourceCache, uri: str) -> str:
    try:
        return sources.version(uri)
    except SourceError:
        return ""  # indexing says what is wrong with it
