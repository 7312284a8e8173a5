"""Death as data: a store whose process "dies" at a chosen change to storage, or never hears of its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import StoreError
from pipeline.objects import ObjectInfo
from pipeline.store import Store

T = TypeVar("T")


class ProcessDiedError(BaseException):
    """Stands for a kill: no handler of the code under test may swallow it."""


class _CountingStore(Store):
    """A real store that counts changes and does something else at one of them."""

    def __init__(self, store: Store, changes: int) -> None:
        super().__init__(store.root, store.storage)
        self.left = changes

    def _change(self, act: Callable[[], T]) -> T:
        raise AssertionError("a subclass says what happens")

    def put(self, rel: str, data: bytes) -> None:
        self._change(lambda: super(_CountingStore, self).put(rel, data))

    def put_file(self, rel: str, local_path: str | os.PathLike[str]) -> None:
        self._change(lambda: super(_CountingStore, self).put_file(rel, local_path))

    def put_new(self, rel: str, data: bytes) -> bool:
        return self._change(lambda: super(_CountingStore, self).put_new(rel, data))

    def replace_file(self, rel: str, local_path: str | os.PathLike[str], seen: ObjectInfo | None) -> bool:
        return self._change(lambda: super(_CountingStore, self).replace_file(rel, local_path, seen))

    def delete(self, rel: str) -> None:
        self._change(lambda: super(_CountingStore, self).delete(rel))


class MortalStore(_CountingStore):
    """Allows ``changes`` writes and deletes and dies at the next one; the dead change nothing any more."""

    def _change(self, act: Callable[[], T]) -> T:
        if self.left == 0:
            raise ProcessDiedError
        self.left -= 1
        return act()


class UnansweredStore(_CountingStore):
    """Makes every change, but the answer of the one after ``changes`` others is lost: unknown outcome."""

    def _change(self, act: Callable[[], T]) -> T:
        done = act()
        self.left -= 1
        if self.left == -1:
            raise StoreError("the answer was lost (injected)")
        return done
