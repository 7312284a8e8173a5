"""Places a job names: local paths made absolute, URLs that may not carry credentials."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

from jobs.spec_base import problem

_SECRET = re.compile(r"secret|token|passw|credential|access_?key|api_?key|account_?key|^key$|^username$|sas$")


def absolute(place: str) -> str:
    """``place`` with local paths made absolute against the current directory; URLs unchanged.

    Raises a validation problem for empty text, NUL bytes and URLs that carry a user or password.
    """
    if not place.strip():
        raise problem("expected a path or URL, found an empty one")
    if "\0" in place:
        raise problem("holds a NUL byte; no path or URL does")
    if "://" in place:
        refuse_userinfo(place)
        return place
    return os.path.abspath(os.path.expanduser(place)) + ("/" if place.endswith("/") and place != "/" else "")


Place = Annotated[str, AfterValidator(absolute)]
"""A member of a section that holds a path or URL; local paths become absolute."""


def refuse_userinfo(url: str) -> None:
    """Raise a validation problem when a URL carries a user name or password."""
    if "@" in urlsplit(url).netloc and urlsplit(url).scheme in ("http", "https", "s3", "ftp", "sftp"):
        raise problem("holds a user name or password; credentials come from the environment only")


def refuse_credentials(options: Any, above: str) -> None:
    """Raise a validation problem naming the first key, at any depth, that looks like a credential."""
    if isinstance(options, list):
        for entry in options:
            refuse_credentials(entry, above)
    if not isinstance(options, dict):
        return
    for key, value in options.items():
        where = f"{above}.{key}" if above else str(key)
        if _SECRET.search(str(key).lower()):
            raise problem(
                "credentials come from the environment only (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY); "
                "remove it",
                where,
            )
        refuse_credentials(value, where)
