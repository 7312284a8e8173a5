"""Opening file systems: local paths and fsspec URLs, the same in every thread and process.

A URL without ``://`` and ``file://`` mean the local disk. Everything else goes through fsspec, with
credentials from the environment only. An opened file system is never pickled: s3fs keeps an event
loop that does not survive a fork, so each process opens its own, once per set of options.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import fsspec
import s3fs
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from fsspec.asyn import sync
from fsspec.exceptions import FSTimeoutError

from pipeline.disk_full import disk_is_full
from pipeline.errors import SpecError, StoreError
from pipeline.keys import digest
from pipeline.redact import redacted
from pipeline.retry import GaveUpError
from pipeline.settings import StorageSettings
from pipeline.transient import is_transient

BACKEND_ERRORS = (
    OSError,
    BotoCoreError,
    ClientError,
    aiohttp.ClientError,
    FSTimeoutError,
    ValueError,
    RuntimeError,
)
"""What fsspec and what lies below it raise; FileNotFoundError and PermissionError are OSErrors."""

_SECRETS = frozenset({"key", "secret", "token", "username", "password", "aws_access_key_id"})
# Requests are repeated in one place (`pipeline.retry`); of botocore's "adaptive" mode the pacing is left,
# which sends more slowly for a while after the service has asked for it.
_S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"mode": "adaptive", "total_max_attempts": 1},
}
_PROBE_CONFIG: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
_PROBE_SECONDS = 8.0
_LISTING_TRIES = 8  # s3fs waits 0.1 s * 1.7**n between them: about 6 s in all
_REMEDY_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a role) in the environment"

_opened: dict[tuple[int, str], Any] = {}
_opened_lock = threading.Lock()


class ObjectMissingError(StoreError):
    """An object that was asked for is not there. ``facts['uri']`` names it."""


def is_local(url: str) -> bool:
    """Whether ``url`` is on this machine's disk: a plain path or ``file://``."""
    return "://" not in url or url.startswith(("file://", "local://"))


def is_s3(url: str) -> bool:
    """Whether ``url`` is in S3 or a service that speaks its protocol."""
    return url.startswith(("s3://", "s3a://"))


def is_memory(url: str) -> bool:
    """Whether ``url`` lies in this process's memory."""
    return url.startswith("memory://")


def local_path(url: str) -> str:
    """Absolute local path of a plain path or ``file://`` URL; ``~/`` is the home folder, and nothing
    else in a name is decoded or expanded."""
    _, found, rest = url.partition("://")
    path = rest if found else url
    return os.path.abspath(os.path.expanduser(path) if path.startswith("~/") else path)


def open_filesystem(url: str, storage: StorageSettings) -> tuple[Any, str]:
    """The fsspec file system of ``url`` and the path inside it.

    Raises SpecError when the options hold credentials or the protocol is unknown.
    """
    if is_local(url):
        return _filesystem("file", {}), local_path(url)
    protocol, _, path = url.partition("://")
    _refuse_credentials(storage.options, "storage.options")
    if is_s3(url):
        return _filesystem("s3", _s3_options(storage)), path
    filesystem = _filesystem(protocol, dict(storage.options))
    return filesystem, filesystem._strip_protocol(url)


@contextlib.contextmanager
def typed_errors(uri: str, action: str) -> Iterator[None]:
    """Turns everything a backend raises inside the block into StoreError naming ``uri``.

    A missing object becomes ObjectMissingError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"{uri}: cannot {action}: it does not exist", uri=uri) from error
    except (PermissionError, NoCredentialsError, PartialCredentialsError) as error:
        raise StoreError(
            f"{uri}: cannot {action}: {brief(error)}; check the rights", uri=uri, operation=action
        ) from error
    except GaveUpError as error:
        raise StoreError(
            f"{uri}: cannot {action}: {error}; run the job again to resume once storage answers",
            uri=uri,
            operation=action,
            attempts=error.attempts,
            seconds=round(error.seconds, 3),
        ) from error
    except BACKEND_ERRORS as error:
        full = disk_is_full(error)
        remedy = "free space there and run" if full else "run"
        after = "" if full else " once storage answers"
        raise StoreError(
            f"{uri}: cannot {action}: {brief(error)}; {remedy} the job again to resume{after}",
            uri=uri,
            operation=action,
        ) from error


def brief(error: BaseException) -> str:
    """One line of an exception: its class and what it says, without credentials."""
    text = redacted(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_bucket(url: str, storage: StorageSettings, field: str) -> None:
    """One bounded S3 request that tells whether ``url`` can be listed (at most about ten seconds).

    Raises SpecError with ``storage.endpoint_url`` when nobody answers there, and with ``field`` for a
    missing bucket or refused credentials.
    """
    bucket, _, prefix = url.partition("://")[2].partition("/")
    _refuse_credentials(storage.options, "storage.options")
    options = _s3_options(storage)
    options["config_kwargs"] |= _PROBE_CONFIG
    filesystem = _filesystem("s3", options, tries=1)
    try:
        sync(
            filesystem.loop,
            filesystem._call_s3,
            "list_objects_v2",
            Bucket=bucket,
            Prefix=prefix,
            MaxKeys=1,
            timeout=_PROBE_SECONDS,
        )
    except BACKEND_ERRORS as error:
        raise bucket_refusal(error, url, storage, field) from error


def bucket_refusal(error: BaseException, url: str, storage: StorageSettings, field: str) -> SpecError:
    """The SpecError that explains why S3 refused a request about ``url``."""
    bucket = url.partition("://")[2].partition("/")[0]
    where = storage.endpoint_url or "the AWS endpoint"
    if isinstance(error, GaveUpError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, FileNotFoundError):
        text = f"{url}: bucket {bucket!r} does not exist at {where}; create it or correct {field}"
        return SpecError(text, field=field, uri=url)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return SpecError(f"{url}: no credentials found; {_REMEDY_CREDENTIALS}", field=field, uri=url)
    if isinstance(error, PermissionError):
        text = f"{url}: {where} refuses these credentials ({brief(error)})"
        return SpecError(f"{text}; {_REMEDY_CREDENTIALS} that may use it", field=field, uri=url)
    if isinstance(error, EndpointConnectionError) or storage.endpoint_url:
        text = (
            f"{url}: no usable S3 answer from {where} ({brief(error)}); "
            f"correct storage.endpoint_url or start the service"
        )
        return SpecError(text, field="storage.endpoint_url", uri=url)
    return SpecError(f"{url}: {brief(error)}; correct {field}", field=field, uri=url)


def _s3_options(storage: StorageSettings) -> dict[str, Any]:
    config = {**_S3_CONFIG, **storage.options.get("config_kwargs", {})}
    options = {**storage.options, "config_kwargs": config, "use_listings_cache": False}
    if storage.endpoint_url is not None:
        if "@" in storage.endpoint_url:
            raise SpecError(
                f"storage.endpoint_url: holds a user name or password; {_REMEDY_CREDENTIALS}",
                field="storage.endpoint_url",
            )
        options["endpoint_url"] = storage.endpoint_url
    return options


def _refuse_credentials(options: dict[str, Any], field: str) -> None:
    for name, value in options.items():
        if name in _SECRETS or "secret" in name.lower():
            raise SpecError(
                f"{field}.{name}: credentials do not belong into a job file; {_REMEDY_CREDENTIALS}",
                field=f"{field}.{name}",
            )
        if isinstance(value, dict):
            _refuse_credentials(value, f"{field}.{name}")


def _filesystem(protocol: str, options: dict[str, Any], tries: int = _LISTING_TRIES) -> Any:
    credentials = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    identity = (os.getpid(), digest([protocol, options, credentials]))
    with _opened_lock:
        if identity not in _opened:
            _opened[identity] = _open(protocol, options, tries)
        return _opened[identity]


def _open(protocol: str, options: dict[str, Any], tries: int) -> Any:
    try:
        filesystem = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
        if protocol == "s3":
            filesystem.retries = tries
            s3fs.core.set_custom_error_handler(is_transient)
            filesystem.connect()  # builds the client; nothing is sent to the service yet
    except (ValueError, ImportError, TypeError, BotoCoreError) as error:
        endpoint = options.get("endpoint_url")
        if isinstance(error, ValueError) and endpoint is not None:
            raise SpecError(
                f"storage.endpoint_url: {endpoint!r} is no address ({brief(error)}); "
                f"write http://host:port or https://host",
                field="storage.endpoint_url",
            ) from error
        raise SpecError(
            f"storage.options: cannot open {protocol}:// storage with them ({brief(error)}); use a local "
            f"path or s3://, and options this file system knows",
            field="storage.options",
        ) from error
    return filesystem


def _after_fork_in_child() -> None:
    # The parent may have been opening a file system, holding the lock, when it forked. What it had
    # opened stays where it is, under the parent's pid: closing it here would wait for its event loop.
    global _opened_lock
    _opened_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
