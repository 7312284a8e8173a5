"""Which failures of storage pass by themselves, so that the same request may succeed later."""

from __future__ import annotations

import aiohttp
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from fsspec.exceptions import FSTimeoutError

_TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "InternalError",
        "ServiceUnavailable",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "ConditionalRequestConflict",
        "OperationAborted",
    }
)
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TRANSIENT = (
    aiohttp.ClientError,
    BotoConnectionError,
    ConnectionError,
    FlexibleChecksumError,
    FSTimeoutError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    ResponseStreamingError,
    TimeoutError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: throttling, 5xx, broken connections, damaged bodies."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in _TRANSIENT_STATUS
    return isinstance(error, _TRANSIENT)
