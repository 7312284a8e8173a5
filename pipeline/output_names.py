"""From the name of a source to a name that is sure to lie below the output root.

Names are data: spaces, quotes, percent signs, letters of any script in any Unicode form, and words that
other systems reserve (``CON``, ``aux``) pass through unchanged, since neither a POSIX disk nor S3 minds
them. Changed is only what could leave the root, hide, or not be stored at all.
"""

from __future__ import annotations

import hashlib

from pipeline.local_objects import TEMPORARY_PREFIX

_LONGEST_PART = 240  # bytes; a POSIX file name has at most 255, and an extension is still to come
_LONGEST_PATH = 700  # bytes; an S3 key has at most 1024, with the root's prefix before it
_KEPT = 180
_DOT = "%2E"
_NOTHING = "%00"


def safe_relative(path: str) -> str:
    """``path``, relative or not, as one that stays below the root it is joined to.

    Parts that are empty, ``.`` or ``..``, NUL bytes, and the prefix that marks unfinished writes are
    percent-encoded; names that are too long keep their beginning and get a piece of their SHA-256.
    Different sources may meet in one name only if one of them spells such a code itself.

    >>> safe_relative("../../etc/cron.d/x")
    '%2E%2E/%2E%2E/etc/cron.d/x'
    >>> safe_relative("/etc/passwd")
    '%00/etc/passwd'
    """
    safe = "/".join(_safe_part(part) for part in path.split("/"))
    if len(_bytes(safe)) > _LONGEST_PATH:
        safe = f"~{_digest(path)}/{safe.rpartition('/')[2]}"
    return safe


def _safe_part(part: str) -> str:
    if part == "":
        return _NOTHING
    part = part.replace("\0", _NOTHING)
    if part in (".", ".."):
        part = _DOT * len(part)
    elif part.startswith(TEMPORARY_PREFIX):
        part = _DOT + part[1:]
    if len(_bytes(part)) > _LONGEST_PART:
        kept = _bytes(part)[:_KEPT].decode("utf-8", "ignore") if _is_text(part) else ""
        part = f"{kept}~{_digest(part)}"
    return part


def _bytes(text: str) -> bytes:
    # Names on disk need not be UTF-8; surrogates stand for their bytes.
    return text.encode("utf-8", "surrogateescape" if _only_escapes(text) else "surrogatepass")


def _only_escapes(text: str) -> bool:
    return all(0xDC80 <= ord(c) <= 0xDCFF for c in text if 0xD800 <= ord(c) <= 0xDFFF)


def _is_text(text: str) -> bool:
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _digest(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()[:16]
