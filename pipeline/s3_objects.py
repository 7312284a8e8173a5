"""Objects in S3, or in a service that speaks its protocol.

Each write carries in the object's metadata a token of its writer and the SHA-256 of its bytes. The token
answers the third outcome of a write: when a connection broke, or a repetition was told "it exists", the
object itself says who wrote it. The digest proves downloads, where ``Content-Length`` alone would not.

Large files go up in parts. The object appears when the upload is completed; an upload that fails is
discarded, and what a killed writer left is found by `S3Objects.discard_unfinished`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mimetypes
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, TypeVar

from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from fsspec.asyn import sync
from s3fs.errors import translate_boto_error

from pipeline.filesystem import BACKEND_ERRORS, open_filesystem
from pipeline.objects import Content, ObjectInfo, OnlyIf, opened, size_of, stream_sha256
from pipeline.retry import Retry, RetryPolicy
from pipeline.s3_requests import S3Requests, status_of, wait_or_raise
from pipeline.settings import StorageSettings

_WRITER = "reelweave-writer"
_SHA256 = "reelweave-sha256"
_READ_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_LARGEST_PUT = 2 * _PART_BYTES
_MOST_PARTS = 10_000
_PARTS_IN_FLIGHT = 4

T = TypeVar("T")


class DamagedBodyError(ConnectionError):
    """A body arrived short or altered; asking again may help."""


class S3Objects:
    """Objects of the service behind ``root`` (an ``s3://`` URL); paths begin with the bucket."""

    def __init__(self, root: str, storage: StorageSettings, policy: RetryPolicy) -> None:
        self._root = root
        self._storage = storage
        self._policy = policy

    def stat(self, path: str) -> ObjectInfo:
        return _info(self._run(lambda client: client.ask("head_object", path)))

    def fetch(self, path: str, sink: BinaryIO) -> None:
        self._run(lambda client: _Download(client, path, sink).run())

    def write(self, path: str, content: Content, only_if: OnlyIf | None) -> bool:
        return self._run(lambda client: _Upload(client, path, content, only_if).run())

    def list(self, folder: str) -> list[str]:
        return self._run(lambda client: client.list(folder))

    def delete(self, path: str) -> None:
        self._run(lambda client: client.ask("delete_object", path))

    def discard_unfinished(self, folder: str) -> int:
        return self._run(lambda client: client.discard_uploads(folder))

    def _run(self, work: Callable[[S3Requests], Awaitable[T]]) -> T:
        fs, _ = open_filesystem(self._root, self._storage)
        try:
            result: T = sync(fs.loop, lambda: work(S3Requests(fs, self._policy)))
        except ClientError as error:
            raise translate_boto_error(error) from error
        return result


class _Upload:
    """One write of one object."""

    def __init__(self, client: S3Requests, path: str, content: Content, only_if: OnlyIf | None) -> None:
        self._client = client
        self._path = path
        self._content = content
        self._only_if = only_if
        self._token = uuid.uuid4().hex

    async def run(self) -> bool:
        with opened(self._content) as source:
            metadata = {_WRITER: self._token, _SHA256: stream_sha256(source)}
            try:
                await self._send(source, metadata)
            except BACKEND_ERRORS as error:
                return await self._settle(error)
        return True

    async def _send(self, source: BinaryIO, metadata: dict[str, str]) -> None:
        size = size_of(self._content)
        if size > _LARGEST_PUT:
            await self._send_parts(source, size, metadata)
            return
        body = source.read()
        await self._client.ask(
            "put_object", self._path, Body=body, **self._about(metadata), **self._condition()
        )

    async def _send_parts(self, source: BinaryIO, size: int, metadata: dict[str, str]) -> None:
        begun = await self._client.ask("create_multipart_upload", self._path, **self._about(metadata))
        upload = str(begun["UploadId"])
        try:
            parts = await self._parts(source, size, upload)
            await self._recheck()
            await self._client.ask(
                "complete_multipart_upload",
                self._path,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
                **self._condition(),
            )
        except BaseException:
            with contextlib.suppress(*BACKEND_ERRORS):
                await self._client.abort(self._path, upload)
            raise

    def _about(self, metadata: dict[str, str]) -> dict[str, Any]:
        """What a browser goes by is the type: without one it saves a report instead of showing it."""
        kind = mimetypes.guess_type(self._path)[0] or "application/octet-stream"
        return {"Metadata": metadata, "ContentType": kind}

    async def _parts(self, source: BinaryIO, size: int, upload: str) -> list[dict[str, Any]]:
        length = max(_PART_BYTES, -(-size // _MOST_PARTS))
        parts: list[dict[str, Any]] = []
        numbers = range(1, -(-size // length) + 1)
        for first in range(0, len(numbers), _PARTS_IN_FLIGHT):
            batch = [(number, source.read(length)) for number in numbers[first : first + _PARTS_IN_FLIGHT]]
            # All of a batch end before an error is raised: a part still on its way would outlive the abort.
            sent = await asyncio.gather(
                *(self._part(upload, number, body) for number, body in batch), return_exceptions=True
            )
            for part in sent:
                if isinstance(part, BaseException):
                    raise part
                parts.append(part)
        return parts

    async def _part(self, upload: str, number: int, body: bytes) -> dict[str, Any]:
        answer = await self._client.ask(
            "upload_part", self._path, UploadId=upload, PartNumber=number, Body=body
        )
        proofs = {n: v for n, v in answer.items() if n.startswith("Checksum") and n != "ChecksumType"}
        return {"PartNumber": number, "ETag": answer["ETag"], **proofs}

    async def _recheck(self) -> None:
        # Some services know the condition for single writes only; a long upload must not rely on it alone.
        if self._only_if is not None and not await self._holds(self._only_if):
            raise _refused()

    async def _holds(self, only_if: OnlyIf) -> bool:
        try:
            found = _info(await self._client.ask("head_object", self._path))
        except ClientError as error:
            if status_of(error) != 404:
                raise
            return only_if.state == "absent"
        return only_if.state == "version" and found.version == only_if.version

    def _condition(self) -> dict[str, str]:
        if self._only_if is None:
            return {}
        if self._only_if.state == "absent":
            return {"IfNoneMatch": "*"}
        return {"IfMatch": self._only_if.version}

    async def _settle(self, error: BaseException) -> bool:
        """An error after which the object may stand all the same: it says whose it is."""
        if isinstance(error, ClientError) and status_of(error) in (401, 403):
            raise error
        try:
            head = await self._client.ask("head_object", self._path)
        except BACKEND_ERRORS:
            if self._only_if is not None and self._only_if.state == "version" and _was_refused(error):
                return False  # what was to be replaced is gone
            raise error from None
        if head.get("Metadata", {}).get(_WRITER) == self._token:
            return True
        if self._only_if is not None and _info(head).version != self._only_if.version:
            return False
        raise error


class _Download:
    """One object into a sink; a broken body is continued where it broke, an altered one begun again."""

    def __init__(self, client: S3Requests, path: str, sink: BinaryIO) -> None:
        self._client = client
        self._bucket, _, self._key = path.partition("/")
        self._sink = sink
        self._restart()

    def _restart(self) -> None:
        self._received = 0
        self._version = ""
        self._expected = ""
        self._size = 0
        self._sha = hashlib.sha256()
        self._sink.seek(0)
        self._sink.truncate()

    async def run(self) -> None:
        retry = Retry(self._client.policy)
        while True:
            begun = self._received
            try:
                await self._receive()
                return
            except BACKEND_ERRORS as error:
                progress = begun < self._received < self._size
                if isinstance(error, ClientError) and status_of(error) in (412, 416) and self._received:
                    error = DamagedBodyError("it was replaced while it was read")
                    self._restart()
                elif self._received >= self._size:
                    self._restart()  # all of it, and yet wrong
                if progress:
                    retry = Retry(self._client.policy)  # the time counts from here
                wait = wait_or_raise(retry, error)
            await asyncio.sleep(wait)

    async def _receive(self) -> None:
        further: dict[str, Any] = {}
        if self._received:
            further = {"Range": f"bytes={self._received}-", "IfMatch": self._version}
        answer = await self._client.once("get_object", self._bucket, Key=self._key, **further)
        if not self._received:
            self._version = answer["ETag"]
            self._size = int(answer["ContentLength"])
            self._expected = answer.get("Metadata", {}).get(_SHA256, "")
        async with answer["Body"] as body:
            while piece := await body.read(_READ_BYTES):
                self._sink.write(piece)
                self._sha.update(piece)
                self._received += len(piece)
        if self._received < self._size:
            raise DamagedBodyError(f"its body ended after {self._received} of {self._size} bytes")
        if self._received != self._size or self._expected not in ("", self._sha.hexdigest()):
            raise DamagedBodyError("its body is not what was written")


def _info(head: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(int(head["ContentLength"]), str(head["ETag"]), head["LastModified"].timestamp())


def _was_refused(error: BaseException) -> bool:
    return isinstance(error, ClientError) and status_of(error) in (404, 412)


def _refused() -> ClientError:
    answer = {
        "Error": {"Code": "PreconditionFailed", "Message": "another writer was faster"},
        "ResponseMetadata": {"HTTPStatusCode": 412},
    }
    return ClientError(answer, "CompleteMultipartUpload")
