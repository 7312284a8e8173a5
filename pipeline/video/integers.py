"""Integers per frame, eight bytes each: what grows with the length of a video should grow by little."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray


class Integers(Sequence[int]):
    """An immutable sequence of signed 64-bit integers; equal to any sequence of the same integers.

    Raises:
        OverflowError: a value does not fit.
    """

    __slots__ = ("_values",)
    _typecode: ClassVar[str] = "q"
    _little_endian: ClassVar[str] = "<i8"

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._values: array[int] = array(self._typecode)
        if isinstance(values, np.ndarray):
            self._values.frombytes(np.ascontiguousarray(values, dtype=self._typecode).tobytes())
        else:
            self._values.extend(values)

    @classmethod
    def of(cls, values: Iterable[int]) -> Self:
        """``values`` itself when it is such a sequence already."""
        return values if isinstance(values, cls) else cls(values)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> Self: ...

    def __getitem__(self, at: int | slice) -> int | Self:
        return type(self)(self._values[at]) if isinstance(at, slice) else self._values[at]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Integers):
            return self._values == other._values
        if isinstance(other, Sequence):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._values)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        # Shares memory unless asked otherwise; numpy's own walk over a sequence would make an object of each.
        view = np.frombuffer(self._values, dtype=self._typecode)
        view.flags.writeable = False
        return view.astype(dtype or view.dtype, copy=bool(copy))

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_text, (self.to_text(),)

    def to_text(self) -> str:
        """Base64 of the integers, little-endian."""
        return base64.b64encode(np.asarray(self).astype(self._little_endian).tobytes()).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` wrote.

        Raises:
            ValueError: it is something else.
        """
        return cls(np.frombuffer(base64.b64decode(text, validate=True), dtype=cls._little_endian))


class Hashes(Integers):
    """The same for unsigned 64-bit integers."""

    __slots__ = ()
    _typecode = "Q"
    _little_endian = "<u8"
