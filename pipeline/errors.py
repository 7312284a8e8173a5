"""Typed errors of the pipeline.

ReelweaveError
├── SpecError         what the user asked for cannot be done      -> exit 2, before any work
├── SourceError       this video cannot be processed              -> quarantine the video, go on
├── MemoryFullError   frames do not fit into memory               -> quarantine the video, go on
├── ChunkError        a piece of a video failed again and again   -> quarantine the video, go on
├── RunError          workers, disks or too many failures        -> stop the run, resume later
└── StoreError        object storage refused or lost something    -> stop the run, resume later
    ├── ResultLostError   a committed result is gone or changed  -> compute it again
    └── LeaseHeldError, LeaseLostError (pipeline.lease)   one run at a time writes to an output

Each carries its facts as keyword attributes besides the message, and survives pickling,
since errors cross process borders.
"""

from __future__ import annotations

from typing import Any

from pipeline.redact import redacted


class ReelweaveError(Exception):
    """Base of all errors a user may see; ``str(error)`` is one sentence with the remedy.

    ``facts`` holds JSON-able details (uri, field, frame, ...).
    """

    def __init__(self, message: str, **facts: Any) -> None:
        self.message = redacted(message)  # whoever raises, whoever prints: no credentials
        super().__init__(self.message)
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)

    def __str__(self) -> str:
        return self.message


class SpecError(ReelweaveError):
    """The job file, a flag or an endpoint is wrong. ``field`` names the place (``a.b.c``)."""

    def __init__(self, message: str, *, field: str = "", **facts: Any) -> None:
        super().__init__(message, field=field, **facts)

    @property
    def field(self) -> str:
        return str(self.facts["field"])


class SourceError(ReelweaveError):
    """One source video is refused. ``code`` is a stable word such as ``no_video_stream``."""

    def __init__(self, message: str, *, code: str, **facts: Any) -> None:
        super().__init__(message, code=code, **facts)

    @property
    def code(self) -> str:
        return str(self.facts["code"])


class ChunkError(SourceError):
    """A chunk, anchor or knot of a video failed on every attempt; the video is quarantined."""


class MemoryFullError(ReelweaveError):
    """Frames do not fit into the memory of the device, or of the machine, even one piece at a time."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **{"code": "out_of_memory", **facts})


class RunError(ReelweaveError):
    """The run cannot go on, for no fault of a video; what is committed is kept."""


class StoreError(ReelweaveError):
    """Object storage failed in a way that retrying inside the run did not cure."""


class ResultLostError(StoreError):
    """A committed result is gone, or its bytes changed; its receipt has been withdrawn."""


def _rebuild(cls: type[ReelweaveError], message: str, facts: dict[str, Any]) -> ReelweaveError:
    error = cls.__new__(cls)
    ReelweaveError.__init__(error, message, **facts)
    return error
