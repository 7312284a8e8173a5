"""Whether a published object still holds the bytes that were published, mostly without reading it.

An object that was written by us, or read and found right, is remembered by its version. Whoever changes an
object gives it another version, on disk (inode and time) as in S3 (ETag), and it is read again. Rot that
changes bytes under an unchanged version is what `reelweave verify` looks for.
"""

from __future__ import annotations

import contextlib
import json

from pipeline.disclosure import sidecar_of
from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json, digest, object_path
from pipeline.manifest_schema import VideoRow
from pipeline.objects import ObjectInfo
from pipeline.store import Store


def is_published(store: Store, row: VideoRow, *, note: bool = True) -> bool:
    """Whether a row speaks of a done video whose file is in place with the bytes that were published.

    ``note``: remember a digest that had to be computed. Raises StoreError.
    """
    if row.status != "done":
        return False
    seen = store.stat(row.output_rel)
    if seen is None or row.metrics.get("bytes") not in (None, seen.size):
        return False
    sidecar = sidecar_of(row)
    if sidecar is not None and not store.exists(sidecar):
        return False
    if not row.output_sha256 or _proven_version(store, row) == seen.version:
        return True
    with contextlib.suppress(ObjectMissingError):
        if store.sha256(row.output_rel) == row.output_sha256:
            if note:
                note_proven(store, row, seen)
            return True
    return False


def note_proven(store: Store, row: VideoRow, seen: ObjectInfo) -> None:
    """Remember that the object ``seen`` has the digest of ``row``. A failure costs only a later reading."""
    with contextlib.suppress(StoreError):
        store.put(_proof_path(row), canonical_json({"version": seen.version, "sha256": row.output_sha256}))


def _proven_version(store: Store, row: VideoRow) -> str:
    with contextlib.suppress(ObjectMissingError, ValueError, KeyError, TypeError):
        proof = json.loads(store.read(_proof_path(row)))
        if proof["sha256"] == row.output_sha256:
            return str(proof["version"])
    return ""


def _proof_path(row: VideoRow) -> str:
    return object_path(digest(["published", row.video_key, row.output_rel]), ".proof")
