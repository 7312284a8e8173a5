"""Opening the output of a job from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from jobs.places import absolute
from pipeline.errors import SpecError
from pipeline.settings import StorageSettings

if TYPE_CHECKING:
    from pipeline.store import Store


def open_output(out: str, endpoint_url: str | None) -> Store:
    """The store at ``out``, proven reachable. Raises SpecError naming OUT or the endpoint."""
    from pipeline.store import Store

    try:
        place = absolute(out)
    except PydanticCustomError as error:
        raise SpecError(f"OUT: {error}", field="OUT") from None
    store = Store(place, StorageSettings(endpoint_url=endpoint_url))
    store.check(write=False)
    return store

