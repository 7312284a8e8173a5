"""One POST when a run has ended, to whoever schedules or watches runs.

The address often is a secret of its own (chat services put a token into the path), so only its host is ever
said. Whatever becomes of the POST, the run's exit code stays what it was.
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from jobs.console import say
from pipeline.errors import SpecError
from pipeline.run_ending import EXIT_CODES, ending_of

TIMEOUT_SECONDS = 10.0


@contextlib.contextmanager
def posted_at_end(url: str | None) -> Iterator[dict[str, Any]]:
    """Yields what will be posted to ``url`` as JSON, for the block to fill in; without one nothing is posted.

    When the block raises, ``status`` is refused (bad input), interrupted or failed, with ``exit_code`` and
    ``error``, and the error goes on. Raises SpecError for an address that is none, before the block.
    """
    if url is not None:
        _require_http(url)
    facts: dict[str, Any] = {}
    try:
        yield facts
    except BaseException as error:
        facts |= _ending(error)
        raise
    finally:
        if url is not None:
            _post(url, facts)


def _ending(error: BaseException) -> dict[str, Any]:
    status, why = ending_of(error)
    return {"status": status, "exit_code": EXIT_CODES[status], "error": why}


def _post(url: str, facts: dict[str, Any]) -> None:
    body = json.dumps(facts, allow_nan=False).encode()
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json", "User-Agent": "reelweave"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        say(f"warning: --webhook: {_host(url)} answered {error.code}; the run itself is not affected")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = f"did not take the summary ({type(reason).__name__})"
        say(f"warning: --webhook: {_host(url)} {why}; the run itself is not affected")


def _require_http(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError("--webhook: expected an http:// or https:// address", field="--webhook")
    if "@" in parts.netloc:
        raise SpecError(
            "--webhook: holds a user name or password; use a token in its path", field="--webhook"
        )


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
