"""Death as data: a store whose process "dies" after a chosen number of changes to storage."""

from __future__ import annotations

import os

from pipeline.store import Store


class ProcessDiedError(BaseException):
    """Stands for a kill: no handler of the code under test may swallow it."""


class MortalStore(Store):
    """A real store that allows ``changes`` writes and deletes and dies at the next one."""

    def __init__(self, store: Store, changes: int) -> None:
        super().__init__(store.root, store.storage)
        self.left = changes

    def _spend(self) -> None:
        if self.left == 0:
            raise ProcessDiedError
        self.left -= 1

    def put(self, rel: str, data: bytes) -> None:
        self._spend()
        super().put(rel, data)

    def put_file(self, rel: str, local_path: str | os.PathLike[str]) -> None:
        self._spend()
        super().put_file(rel, local_path)

    def put_new(self, rel: str, data: bytes) -> bool:
        self._spend()
        return super().put_new(rel, data)

    def delete(self, rel: str) -> None:
        self._spend()
        super().delete(rel)
