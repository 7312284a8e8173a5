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
    catalog: Sequence[CatalogEntry], keys: JobKeys, store: Store, sources: SourceCache, *, note: bool = True
) -> dict[str, VideoRow]:
    """Rows of the videos of ``catalog`` with which nothing is to be done, by URI. Raises StoreError."""
    rows = {row.video_uri: row for row in read_video_rows(store)}

    def is_settled(entry: CatalogEntry) -> bool:
        row = rows.get(entry.uri)
        return (
            row is not None
            and _is_wanted(entry, row, keys)
            and _version(sources, entry.uri) == row.source_version
            and is_published(store, row, note=note)
        )

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(is_settled, catalog))
    return {entry.uri: rows[entry.uri] for entry, yes in zip(catalog, found, strict=True) if yes}


def _is_wanted(entry: CatalogEntry, row: VideoRow, keys: JobKeys) -> bool:
    """Whether the row's result is the one that this job makes of the row's source."""
    own = keys_of_row(row, keys)
    container = row.output_rel.rpartition(".")[2]
    return (
        row.status == "done"
        and own is not None
        and row.source_version != ""
        and row.video_key == own.video(row.source_digest, container)
        and row.output_rel == output_relative(entry, container)
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
