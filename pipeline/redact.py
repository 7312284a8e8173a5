"""Keeping credentials out of whatever is written down: errors, logs, manifests, reports.

Credentials come from the environment, so their values are known there: every value of a variable whose
name speaks of a secret is blotted out, and so are the forms in which requests carry them.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

BLOT = "[redacted]"

_SECRET_NAME = re.compile(r"secret|token|passw|credential(?!s_file)|access_key|api_?key|private_?key", re.I)
_SHORTEST = 8  # shorter values would blot out ordinary words

_FORMS = (
    re.compile(r"(?P<keep>://)[^/@\s:]+:[^/@\s]+(?=@)"),
    re.compile(
        r"(?P<keep>[?&](?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|sig|token)=)"
        r"[^&\s\"'<>]+",
        re.I,
    ),
    re.compile(r"(?P<keep>Authorization['\"]?\s*[:=]\s*['\"]?)[^'\"\n]+", re.I),
    re.compile(r"(?P<keep>aws_secret_access_key['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]+", re.I),
)


def redacted(text: str) -> str:
    """``text`` without credentials: values of the environment and signed or spelled-out forms.

    >>> redacted("GET http://me:hunter2@host/a?X-Amz-Signature=0a1b&x=1")
    'GET http://[redacted]@host/a?X-Amz-Signature=[redacted]&x=1'
    """
    for secret in _secrets():
        text = text.replace(secret, BLOT)
    for form in _FORMS:
        text = form.sub(lambda found: found["keep"] + BLOT, text)
    return text


def carries_credentials(url: str) -> bool:
    """Whether an address holds a password or a signature."""
    return "://" in url and any(form.search(url) for form in _FORMS[:2])


def _secrets() -> list[str]:
    values = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST
        if not os.path.isabs(value) and not value.isdecimal()
    }
    spelled = values | {quote(value, safe="") for value in values}
    return sorted(spelled, key=len, reverse=True)
