"""Committing results: chunks into the chunk store, videos to where readers find them.

The order of a video's writes is: its segments, then the video, then its manifest row. Each of them is one
write of one object (`pipeline.store`), which ends in one of three ways:

    committed   the object is there, whole
    refused     its condition did not hold, nothing was written: somebody else was faster
    unknown     storage gave no answer in time: a StoreError. The object is read back and its digest compared;
                equal is committed, everything else stops the attempt, and the next one begins at line 1

A segment, or any other result of a chunk. ``key`` names everything it depends on; the receipt is the commit.

    1. look for a receipt of the key              found: the work is done, nothing is written
    2. hash the local file
    3. upload it to .work/<aa>/<key>.<hash><suffix>
                                                  die here: an unnamed object; a rerun writes it again
    4. create .work/<aa>/<key>.json, exclusively  die here: the chunk is done
    5. refused at 4: take the other attempt's receipt, delete the own object if it differs
                                                  die here: an unnamed object beside a valid pair

A reader who goes by receipts sees nothing, or a receipt whose object is complete. The object's name
carries its content's hash, so a late attempt with other bytes cannot change what a receipt names, and
writing it once more after an unknown outcome is harmless. No token is needed.

A video. The caller has decoded and verified the local file and holds a fencing token (`pipeline.lease`);
the manifest row is the commit.

    1. look for the row that stands               this key's, with its output in place (`pipeline.proof`):
                                                  done, nothing is written
    2. hash the local file, compare with what was verified
    3. look at the published file                 its version is remembered
    4. check the token                            a later run exists: stop
    5. withdraw the video's rows up to the token  die here: old file, no row: the video counts as left
    6. replace the file, and the credentials beside it if it has some, if still in the version of line 3
                                                  refused: begin again
                                                  die here: new file, no row: left, a rerun replaces it
    7. check the token                            a later run exists: stop; it will replace the file
    8. create the row <key>.<token>, exclusively  die here: the video is done
    9. refused at 8: two attempts of one run met; the published bytes decide which row stands
   10. note the version of line 6                 die here: the next run reads the object once to prove it

Rows go before the file they speak of is replaced, so no row ever describes other bytes. Between 4 and 8 a
run may be stopped for any time and a later one take over. If that one has published by then, line 6 is
refused, for the file is in another version; if not, it will find the version changed and begin again. A row
written at 8 by a run that was overtaken after 7 does not stand: readers go by the highest token, and line 5
spares the rows of later runs.

One gap is left, on S3 only, where a version is an ETag and equal bytes share it: a run frozen between 4 and 6
may replace the file if a later run has meanwhile put back the very bytes that were there before, under a
changed and changed back job. `reelweave verify` finds that by the digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

from pipeline.disclosure import sidecar_relative
from pipeline.errors import ResultLostError, StoreError
from pipeline.filesystem import ObjectMissingError, typed_errors
from pipeline.keys import StrPath, canonical_json, file_sha256, object_path
from pipeline.lease import NO_LEASE, Fence
from pipeline.manifest import VideoRow, create_done_row, find_row, replace_done_row, withdraw_rows
from pipeline.objects import ObjectInfo
from pipeline.proof import is_published, note_proven
from pipeline.store import Store

#: An attempt that has published does not come back, so of n at once each is refused n - 1 times at most.
_PUBLISH_ATTEMPTS = 8


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
        told = self.store.find(object_path(key, ".json"))
        receipt = None if told is None else _parse_receipt(key, told)
        if receipt is None or self.store.stat_size(receipt.object) != receipt.size:
            return None
        return receipt

    def commit(self, key: str, suffix: str, local_path: StrPath, facts: dict[str, Any]) -> Receipt:
        """Stores a local file as the result of ``key``; the receipt that counts is returned, which may
        be an earlier or concurrent attempt's. ``suffix`` begins with a dot.

        Raises ValueError for facts that are no finite JSON, before anything is written.
        """
        canonical_json(facts)
        done = self.lookup(key)  # line 1
        if done is not None:
            return done
        local = os.fspath(local_path)
        with typed_errors(local, "read it"):
            sha256, size = file_sha256(local), os.path.getsize(local)  # line 2
        receipt = Receipt(key, object_path(key, f".{sha256[:16]}{suffix}"), size, sha256, facts)
        self.store.put_file(receipt.object, local)  # line 3
        return self._sign(receipt)

    def commit_bytes(self, key: str, suffix: str, data: bytes, facts: dict[str, Any]) -> Receipt:
        """Like `commit`, for a result held in memory."""
        with tempfile.NamedTemporaryFile(prefix="reelweave-") as file:
            file.write(data)
            file.flush()
            return self.commit(key, suffix, file.name, facts)

    def fetch(self, receipt: Receipt, local_path: StrPath) -> None:
        """Downloads a result. Raises ResultLostError, after withdrawing the receipt, if its bytes changed
        or it is gone."""
        try:
            self.store.get_file(receipt.object, local_path)
        except ObjectMissingError as error:
            raise self._corrupt(receipt) from error
        if file_sha256(local_path) != receipt.sha256:
            os.unlink(local_path)
            raise self._corrupt(receipt)

    def read(self, receipt: Receipt) -> bytes:
        """A result's bytes. Raises ResultLostError, after withdrawing the receipt, if they changed."""
        data = self.store.find(receipt.object)
        if data is None or hashlib.sha256(data).hexdigest() != receipt.sha256:
            raise self._corrupt(receipt)
        return data

    def _sign(self, receipt: Receipt) -> Receipt:
        path = object_path(receipt.key, ".json")
        if self.store.put_new(path, canonical_json(receipt)):  # line 4
            return receipt
        winner = self.lookup(receipt.key)
        if winner is None:  # what is there is torn or names a lost object
            self.store.put(path, canonical_json(receipt))
            return receipt
        if winner.object != receipt.object:
            self.store.delete(receipt.object)  # line 5
        return winner

    def _corrupt(self, receipt: Receipt) -> ResultLostError:
        self.store.delete(object_path(receipt.key, ".json"))
        uri = self.store.uri(receipt.object)
        return ResultLostError(
            f"{uri}: its bytes are not those that were committed; run the job again, which recomputes it",
            uri=uri,
            key=receipt.key,
        )


def publish_video(
    store: Store,
    local_path: StrPath,
    output_rel: str,
    row: VideoRow,
    fence: Fence = NO_LEASE,
    sidecar: StrPath | None = None,
) -> VideoRow:
    """Publishes a verified local file as ``output_rel`` and commits ``row`` (see the protocol above).
    ``sidecar``: a local file that goes beside it (`pipeline.disclosure`).

    Returns the row that counts: ``row`` with its output fields filled in, or another attempt's.
    Raises LeaseLostError when a later run has taken over, StoreError when storage fails or the file is
    not the one whose SHA-256 the row carries.
    """
    local = os.fspath(local_path)
    for _ in range(_PUBLISH_ATTEMPTS):
        done = find_row(store, row.video_uri, row.video_key)  # line 1
        if done is not None and is_published(store, done):
            return done
        with typed_errors(local, "read it"):
            sha256 = file_sha256(local)  # line 2
        if row.output_sha256 not in ("", sha256):
            raise StoreError(
                f"{local}: changed between verification and upload; run the job again", uri=local
            )
        ours = dataclasses.replace(
            row,
            status="done",
            output_rel=output_rel,
            output_uri=store.uri(output_rel),
            output_sha256=sha256,
            token=fence.token,
        )
        seen, seen_sidecar = store.stat(output_rel), _seen_sidecar(store, output_rel, sidecar)  # line 3
        fence.check(store)  # line 4
        withdraw_rows(store, row.video_uri, fence.token)  # line 5
        if _replace(store, output_rel, local, seen, sha256) and _replace_sidecar(
            store, output_rel, sidecar, seen_sidecar, replacing=seen is not None
        ):  # line 6
            replaced = store.stat(output_rel)
            fence.check(store)  # line 7
            row_that_stands = ours if _create(store, ours) else _settle(store, ours)  # lines 8 and 9
            if replaced is not None and row_that_stands is ours:
                note_proven(store, ours, replaced)  # line 10
            return row_that_stands
    uri = store.uri(output_rel)
    raise StoreError(
        f"{uri}: was replaced by others {_PUBLISH_ATTEMPTS} times while it was being published; find out who "
        f"else writes there, then run the job again",
        uri=uri,
    )


def _replace(store: Store, rel: str, local: str, seen: ObjectInfo | None, sha256: str) -> bool:
    try:
        return store.replace_file(rel, local, seen)
    except StoreError:
        # Unknown. Reading back says what became of it; if that fails too, its error is as good.
        if store.stat_size(rel) == os.path.getsize(local) and store.sha256(rel) == sha256:
            return True
        raise


def _seen_sidecar(store: Store, output_rel: str, sidecar: StrPath | None) -> ObjectInfo | None:
    return None if sidecar is None else store.stat(sidecar_relative(output_rel))


def _replace_sidecar(
    store: Store, output_rel: str, sidecar: StrPath | None, seen: ObjectInfo | None, *, replacing: bool
) -> bool:
    """Put the credentials beside a file, or take away what an older file at its place may have had."""
    rel = sidecar_relative(output_rel)
    if sidecar is not None:
        local = os.fspath(sidecar)
        return _replace(store, rel, local, seen, file_sha256(local))
    if replacing and store.exists(rel):
        store.delete(rel)
    return True


def _create(store: Store, row: VideoRow) -> bool:
    try:
        return create_done_row(store, row)
    except StoreError:
        if find_row(store, row.video_uri, row.video_key) == row:
            return True
        raise


def _settle(store: Store, row: VideoRow) -> VideoRow:
    """Two attempts of one run published one key: keep the row that tells the truth about the bytes."""
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
