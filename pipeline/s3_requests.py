"""Requests to S3, each repeated while its failures are of the passing kind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from pipeline.filesystem import BACKEND_ERRORS
from pipeline.retry import Retry, RetryPolicy
from pipeline.transient import is_transient


class S3Requests:
    """Requests about one bucket's objects, repeated while their failures are of the passing kind."""

    def __init__(self, fs: Any, policy: RetryPolicy) -> None:
        self._fs = fs
        self.policy = policy

    async def ask(self, operation: str, path: str, **details: Any) -> dict[str, Any]:
        """One request about the object ``path``."""
        bucket, _, key = path.partition("/")
        return await self.request(operation, bucket, Key=key, **details)

    async def request(self, operation: str, bucket: str, **details: Any) -> dict[str, Any]:
        """One request; raises GaveUpError when repeating it did not help, else what it raised."""
        retry = Retry(self.policy)
        while True:
            try:
                return await self.once(operation, bucket, **details)
            except BACKEND_ERRORS as error:
                wait = wait_or_raise(retry, error)
            await asyncio.sleep(wait)

    async def once(self, operation: str, bucket: str, **details: Any) -> dict[str, Any]:
        """One request, not repeated."""
        await self._fs.set_session()
        method = getattr(await self._fs.get_s3(bucket), operation)
        answer: dict[str, Any] = await method(
            **self._fs._get_s3_method_kwargs(method, Bucket=bucket, **details)
        )
        return answer

    async def list(self, folder: str) -> list[str]:
        """Paths of all objects below ``folder``; names that end with a slash are folder marks of others."""
        bucket, _, prefix = folder.partition("/")
        more: dict[str, Any] = {"Prefix": f"{prefix}/" if prefix else ""}
        found: list[str] = []
        while True:
            page = await self.request("list_objects_v2", bucket, **more)
            found += [f"{bucket}/{item['Key']}" for item in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return [path for path in found if not path.endswith("/")]
            more["ContinuationToken"] = page["NextContinuationToken"]

    async def discard_uploads(self, folder: str) -> int:
        """Aborts every multipart upload below ``folder``; none where they may not be listed."""
        try:
            return await self._discard_uploads(folder)
        except ClientError as error:
            if status_of(error) in (401, 403, 405, 501):
                return 0
            raise

    async def _discard_uploads(self, folder: str) -> int:
        bucket, _, prefix = folder.partition("/")
        more: dict[str, Any] = {"Prefix": f"{prefix}/" if prefix else ""}
        discarded = 0
        while True:
            page = await self.request("list_multipart_uploads", bucket, **more)
            for upload in page.get("Uploads", ()):
                await self.abort(f"{bucket}/{upload['Key']}", upload["UploadId"])
                discarded += 1
            if not page.get("IsTruncated"):
                return discarded
            more |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def abort(self, path: str, upload: str) -> None:
        """Discards an upload; one that is gone is fine."""
        with contextlib.suppress(ClientError):
            await self.ask("abort_multipart_upload", path, UploadId=upload)


def wait_or_raise(retry: Retry, error: BaseException) -> float:
    """Seconds until the next try; raises ``error`` itself when trying again is of no use."""
    if not is_transient(error):
        raise error
    return retry.wait_after(error)


def status_of(error: ClientError) -> int:
    """HTTP status of a refused request; 0 when it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
