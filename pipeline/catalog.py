"""The catalog: which source videos a job has, and where each one's output goes.

Names are data: spaces, quotes, percent signs, leading dashes and letters of any script pass through
unchanged. Nothing is opened here but the listings and, if given, the parquet.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from pipeline.errors import SpecError
from pipeline.filesystem import (
    BACKEND_ERRORS,
    brief,
    bucket_refusal,
    check_bucket,
    is_local,
    is_s3,
    local_path,
    open_filesystem,
)
from pipeline.output_names import safe_relative
from pipeline.redact import carries_credentials, redacted
from pipeline.settings import StorageSettings
from pipeline.store import checked_relative
from pipeline.unlistable import unlistable_folders
from pipeline.video.copy_name import COPY, COPY_EXTENSIONS

_MAGIC = re.compile(r"[*?\[]")
_OUTPUT_EXTENSIONS = ("mp4", "mkv", "mov", "webm")


@dataclass(frozen=True)
class CatalogEntry:
    """One source video. ``uri`` is an absolute local path or an fsspec URL; ``relative`` its path below
    the fixed root of the glob that found it (the name alone for a single file). ``keep_extension``:
    another source differs only by extension, so the output's name keeps the whole of this one's."""

    uri: str
    relative: str
    keep_extension: bool = False


def output_extensions(codec: str) -> tuple[str, ...]:
    """Endings that outputs of this ``encode.codec`` may get."""
    return (*_OUTPUT_EXTENSIONS, *COPY_EXTENSIONS) if codec == COPY else _OUTPUT_EXTENSIONS


def resolve_catalog(
    source: Sequence[str],
    output: str,
    storage: StorageSettings,
    extensions: Sequence[str] = _OUTPUT_EXTENSIONS,
) -> list[CatalogEntry]:
    """The videos that ``source`` names, sorted by URI, each once; ``extensions`` are those of the outputs.

    An item is a file, a glob (``**`` crosses folders; names that begin with a dot need a pattern that
    does too), or a ``.parquet`` with a column ``uri``, whose files are placed relative to their common
    folder. A single file that is absent stays in, to be quarantined as missing; so does what a glob finds and
    nobody can read, folders that cannot be listed among it.

    Raises SpecError, field ``source``: a folder, a glob without a match, an unreadable listing, two
    videos that would share an output; field ``output``: the output would be read as source next time.
    """
    if not source:
        raise SpecError("source: names no video; give a path, a URL, a glob or a parquet", field="source")
    _refuse_credentials_in(source)
    found: dict[str, CatalogEntry] = {}
    for item in source:
        for entry in _resolve_item(item, output, storage, extensions):
            found.setdefault(entry.uri, entry)
    entries = _separate_extensions(sorted(found.values(), key=lambda entry: entry.uri))
    _refuse_sources_in_output(entries, output)
    _refuse_clashes(entries)
    return entries


def output_relative(entry: CatalogEntry, extension: str) -> str:
    """Where the output of a video goes below the output root; ``extension`` without its dot.

    >>> output_relative(CatalogEntry("s3://in/a/b.avi", "a/b.avi"), "mp4")
    'videos/a/b.mp4'
    """
    return checked_relative(f"videos/{_output_stem(entry)}.{extension}")


def _resolve_item(
    item: str, output: str, storage: StorageSettings, extensions: Sequence[str]
) -> list[CatalogEntry]:
    fs, path = open_filesystem(item, storage)
    try:
        if is_s3(item):
            _refuse_unreachable(item, path, storage)
        if _MAGIC.search(path) and not fs.exists(path):
            return _resolve_glob(item, fs, path, output, extensions)
        kind = _kind(fs, path)
        if kind == "directory" or item.endswith("/"):
            raise SpecError(
                f"source: {item} is a folder; write {item.rstrip('/')}/**/*.mp4 to take the videos in it",
                field="source",
                uri=item,
            )
        if path.endswith(".parquet"):
            return _resolve_parquet(item, fs, path, storage)
    except BACKEND_ERRORS as error:
        raise _unreadable(item, error, storage) from error
    return [CatalogEntry(_uri(item, path), path.rpartition("/")[2])]


def _kind(fs: Any, path: str) -> str:
    try:
        return str(fs.info(path)["type"])
    except FileNotFoundError:
        return "missing"


def _refuse_unreachable(item: str, path: str, storage: StorageSettings) -> None:
    """Asks S3 once, within seconds; the listing itself would retry for much longer."""
    try:
        check_bucket(f"s3://{_fixed_folder(path)}", storage, "source")
    except SpecError as error:
        # A single object may be readable where listing is not allowed.
        if _MAGIC.search(path) or not isinstance(error.__cause__, PermissionError):
            raise


def _fixed_folder(path: str) -> str:
    """The part of a path or pattern before the component with the first glob letter (or the last one)."""
    return _MAGIC.split(path, maxsplit=1)[0].rpartition("/")[0]


def _resolve_glob(
    item: str, fs: Any, pattern: str, output: str, extensions: Sequence[str]
) -> list[CatalogEntry]:
    root = _fixed_folder(pattern)
    matches = re.compile(glob_translate(pattern)).match
    wants_hidden = any(part.startswith(".") for part in pattern[len(root) :].split("/"))
    # What is neither file nor folder (a pipe, a link to nowhere) has a video's name: indexing says what is
    # wrong with it. So it does of a folder that cannot be listed, in which there may be videos.
    found = {
        path
        for path, info in fs.glob(pattern, detail=True).items()
        if (not os.path.isdir(path) if is_local(item) else info["type"] == "file" and path[-1] != "/")
    }
    shut = unlistable_folders(root, pattern) if is_local(item) else []
    if root in shut:
        raise PermissionError(f"{root} cannot be listed")
    entries = []
    for path in sorted({*found, *shut}):
        relative = path[len(root) :].removeprefix("/")
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if wants_hidden or not hidden:
            entries.append(CatalogEntry(_uri(item, path), relative))
    if is_local(item) == is_local(output):
        _refuse_output_in_glob(item, matches, entries, output, extensions)
    if not entries:
        raise SpecError(
            f"source: nothing matches {item}; check the folder and the ending of the names",
            field="source",
            uri=item,
        )
    return entries


def _resolve_parquet(item: str, fs: Any, path: str, storage: StorageSettings) -> list[CatalogEntry]:
    try:
        with fs.open(path, "rb") as file:
            uris = pq.read_table(file, columns=["uri"]).column("uri").to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise SpecError(
            f"source: {item} is no parquet file with a text column 'uri' ({brief(error)})",
            field="source",
            uri=item,
        ) from error
    if not uris or not all(isinstance(uri, str) and uri for uri in uris):
        raise SpecError(f"source: column 'uri' of {item} is empty or has rows without text", field="source")
    _refuse_credentials_in(uris)
    absolute = [_uri(uri, open_filesystem(uri, storage)[1]) for uri in uris]
    folder = _common_folder(absolute)
    return [CatalogEntry(uri, uri[len(folder) :].removeprefix("/")) for uri in absolute]


def _common_folder(uris: Iterable[str]) -> str:
    """The deepest folder that holds all of ``uris``; protocols and buckets count as folders."""
    parents = [uri.rpartition("/")[0].split("/") for uri in uris]
    shared = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _uri(item: str, path: str) -> str:
    protocol, found, _ = item.partition("://")
    if is_local(item) or not found or "://" in path:
        return path
    return f"{protocol}://{path}"


def _output_stem(entry: CatalogEntry) -> str:
    return safe_relative(entry.relative if entry.keep_extension else os.path.splitext(entry.relative)[0])


def _separate_extensions(entries: list[CatalogEntry]) -> list[CatalogEntry]:
    """Marks the videos of one folder whose names differ only by extension."""
    relatives = {entry.relative for entry in entries}
    shared = Counter(os.path.splitext(relative)[0] for relative in relatives)
    return [replace(e, keep_extension=shared[os.path.splitext(e.relative)[0]] > 1) for e in entries]


def _refuse_credentials_in(uris: Iterable[str]) -> None:
    """A URI is recorded in manifests and reports, so it may not be a key to anything."""
    for uri in uris:
        if carries_credentials(uri):
            raise SpecError(
                f"source: {redacted(uri)} carries credentials in its address; name the object without them "
                f"and set credentials in the environment",
                field="source",
            )


def _refuse_clashes(entries: Iterable[CatalogEntry]) -> None:
    owners: dict[str, str] = {}
    for entry in entries:
        other = owners.setdefault(_output_stem(entry), entry.uri)
        if other != entry.uri:
            raise SpecError(
                f"source: {other} and {entry.uri} would both be written to videos/{_output_stem(entry)}; "
                f"take both through one glob above them, or rename one",
                field="source",
                uris=[other, entry.uri],
            )


def _refuse_output_in_glob(
    item: str,
    matches: Callable[[str], Any],
    entries: Iterable[CatalogEntry],
    output: str,
    extensions: Sequence[str],
) -> None:
    """A rerun must find the same sources: no output of this job may match the pattern."""
    root = local_path(output) if is_local(output) else output.partition("://")[2].rstrip("/")
    names = [_output_stem(entry) for entry in entries] or ["video"]
    for name in names:
        if any(matches(f"{root}/videos/{name}.{extension}") for extension in extensions):
            raise SpecError(
                f"output: {output} lies where the source {item} looks, so the next run would take results "
                f"for sources; choose an output outside of it",
                field="output",
            )


def _refuse_sources_in_output(entries: Iterable[CatalogEntry], output: str) -> None:
    root = _place(output)
    for entry in entries:
        if _place(entry.uri).startswith(f"{root}/videos/"):
            raise SpecError(
                f"output: the source {entry.uri} lies among the results in {output}; choose another output",
                field="output",
                uri=entry.uri,
            )


def _place(url: str) -> str:
    return os.path.realpath(local_path(url)) if is_local(url) else url.rstrip("/")


def _unreadable(item: str, error: BaseException, storage: StorageSettings) -> SpecError:
    if is_s3(item) and not isinstance(error, FileNotFoundError):
        return bucket_refusal(error, item, storage, "source")
    message = f"source: cannot read {item} ({brief(error)}); correct the path"
    return SpecError(message, field="source", uri=item)
