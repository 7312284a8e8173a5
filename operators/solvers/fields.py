"""Reading numbers from the ``solver`` mapping of a job, with their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operators.errors import OperatorError

Spec = Mapping[str, Any]


def whole(spec: Spec, field: str, default: int, low: int = 1) -> int:
    """An integer of at least ``low``."""
    value = int(spec.get(field, default))
    if value < low:
        raise OperatorError(f"solver.{field}: {value} is not at least {low}; the default is {default}")
    return value


def positive(spec: Spec, field: str, default: float) -> float:
    """A number above zero."""
    value = float(spec.get(field, default))
    if not value > 0.0:
        raise OperatorError(f"solver.{field}: {value} is not above zero; the default is {default}")
    return value


def share(spec: Spec, field: str, default: float) -> float:
    """A number in [0, 1]."""
    value = float(spec.get(field, default))
    if not 0.0 <= value <= 1.0:
        raise OperatorError(f"solver.{field}: {value} is outside [0, 1]; the default is {default}")
    return value


def weight(spec: Spec, field: str, default: float) -> float:
    """A number of at least zero."""
    value = float(spec.get(field, default))
    if not value >= 0.0:
        raise OperatorError(f"solver.{field}: {value} is negative; the default is {default}")
    return value


def choice(spec: Spec, field: str, choices: Mapping[str, Any] | tuple[str, ...], default: str) -> str:
    """One of ``choices``."""
    value = spec.get(field, default)
    if value not in choices:
        raise OperatorError(f"solver.{field}: {value!r} is unknown; use one of {', '.join(choices)}")
    return value
