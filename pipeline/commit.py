"""Committing results: chunks into the chunk store, videos to where readers find them.

A chunk. ``key`` names everything it depends on; the receipt is the commit.

    1. look for a receipt of the key              found: the work is done, nothing is written
    2. hash the local file
    3. upload it to .work/<aa>/<key>.<hash><suffix>
                                                  die here: an unnamed object; a rerun writes it again
    4. create .work/<aa>/<key>.json, exclusively  die here: the chunk is done
    5. where another attempt created it first, take its receipt and delete the own object if it differs
                                                  die here: an unnamed object beside a valid pair

A reader who goes by receipts sees nothing, or a receipt whose object is complete. The object's name
carries its content's hash, so a late attempt with other bytes cannot change what a receipt names.

A video. The caller has decoded and verified the local file; the manifest row is the commit.

    1. look for a done row of the key with its output in place    found: done, nothing is written
    2. hash the local file, compare with what was verified
    3. withdraw all older rows of the video       die here: old file, no row: the video counts as left
    4. upload to its final name, atomically       die here: new file, no row: left, a rerun replaces it
    5. create the row, exclusively                die here: the video is done
    6. where another attempt created a different row first, the published bytes decide which row stands

Rows go before the file they speak of is replaced, so no row ever describes other bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError, typed_errors
from pipeline.keys import StrPath, canonical_json, file_sha256, object_path
from pipeline.manifest import VideoRow, create_done_row, find_row, replace_done_row, withdraw_rows
from pipeline.store import Store


@dataclass(frozen=True)
class Receipt:
    """Proof that ``key`` is done: its object (relative path), size in bytes, SHA-256, and what the
    maker had to say about it (finite JSON)."""

    key: str
    object: str
    size: int
    sha256: str
    facts: dict[str, Any]


class ChunkStore:
    """Content-addressed results below ``.work/`` of the output root. Picklable, safe in threads.

    Methods raise StoreError when storage fails.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def lookup(self, key: str) -> Receipt | None:
        """The receipt of a finished result, or None: no receipt, an unreadable one, or one whose object
        is absent or of another size all mean that the work is to be done."""
        try:
            receipt = _parse_receipt(key, self.store.read(object_path(key, ".json")))
        except ObjectMissingError:
            return None
        if receipt is None or self.store.stat_size(receipt.object) != receipt.size:
            return None
        return receipt

    def commit(self, key: str, suffix: str, local_path: StrPath, facts: dict[str, Any]) -> Receipt:
        """Stores a local file as the result of ``key``; the receipt that counts is returned, which may
        be an earlier or concurrent attempt's. ``suffix`` begins with a dot.

        Raises ValueError for facts that are no finite JSON, before anything is written.
        """
        canonical_json(facts)
        done = self.lookup(key)
        if done is not None:
            return done
        local = os.fspath(local_path)
        with typed_errors(local, "read it"):
            sha256, size = file_sha256(local), os.path.getsize(local)
        receipt = Receipt(key, object_path(key, f".{sha256[:16]}{suffix}"), size, sha256, facts)
        self.store.put_file(receipt.object, local)
        return self._sign(receipt)

    def commit_bytes(self, key: str, suffix: str, data: bytes, facts: dict[str, Any]) -> Receipt:
        """Like `commit`, for a result held in memory."""
        with tempfile.NamedTemporaryFile(prefix="reelweave-") as file:
            file.write(data)
            file.flush()
            return self.commit(key, suffix, file.name, facts)

    def fetch(self, receipt: Receipt, local_path: StrPath) -> None:
        """Downloads a result. Raises StoreError, after withdrawing the receipt, if its bytes changed."""
        self.store.get_file(receipt.object, local_path)
        if file_sha256(local_path) != receipt.sha256:
            os.unlink(local_path)
            raise self._corrupt(receipt)

    def read(self, receipt: Receipt) -> bytes:
        """A result's bytes. Raises StoreError, after withdrawing the receipt, if they changed."""
        with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
            path = os.path.join(folder, "object")
            self.fetch(receipt, path)
            with open(path, "rb") as file:
                return file.read()

    def _sign(self, receipt: Receipt) -> Receipt:
        path = object_path(receipt.key, ".json")
        if self.store.put_new(path, canonical_json(receipt)):
            return receipt
        winner = self.lookup(receipt.key)
        if winner is None:  # what is there is torn or names a lost object
            self.store.put(path, canonical_json(receipt))
            return receipt
        if winner.object != receipt.object:
            self.store.delete(receipt.object)
        return winner

    def _corrupt(self, receipt: Receipt) -> StoreError:
        self.store.delete(object_path(receipt.key, ".json"))
        uri = self.store.uri(receipt.object)
        return StoreError(
            f"{uri}: its bytes are not those that were committed; run the job again, which recomputes it",
            uri=uri,
            key=receipt.key,
        )


def publish_video(store: Store, local_path: StrPath, output_rel: str, row: VideoRow) -> VideoRow:
    """Publishes a verified local file as ``output_rel`` and commits ``row`` (see the protocol above).

    Returns the row that counts: ``row`` with its output fields filled in, or another attempt's.
    Raises StoreError when storage fails or the file is not the one whose SHA-256 the row carries.
    """
    done = find_row(store, row.video_uri, row.video_key)
    if done is not None and done.status == "done" and store.exists(done.output_rel):
        return done
    local = os.fspath(local_path)
    with typed_errors(local, "read it"):
        sha256 = file_sha256(local)
    if row.output_sha256 not in ("", sha256):
        raise StoreError(f"{local}: changed between verification and upload; run the job again", uri=local)
    row = dataclasses.replace(
        row, status="done", output_rel=output_rel, output_uri=store.uri(output_rel), output_sha256=sha256
    )
    withdraw_rows(store, row.video_uri)
    store.put_file(output_rel, local)
    if create_done_row(store, row):
        return row
    return _settle(store, row)


def _settle(store: Store, row: VideoRow) -> VideoRow:
    """Two attempts published one key: keep the row that tells the truth about the published bytes."""
    winner = find_row(store, row.video_uri, row.video_key)
    if winner is not None and winner.status == "done":
        if winner.output_sha256 == row.output_sha256:
            return winner
        with contextlib.suppress(ObjectMissingError):
            if winner.output_sha256 == store.sha256(winner.output_rel):
                return winner
    replace_done_row(store, row)
    return row


def _parse_receipt(key: str, data: bytes) -> Receipt | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        record = json.loads(data)
        receipt = Receipt(**record)
        if receipt.key == key and receipt.object.startswith(object_path(key, ".")):
            return receipt
    return None
