"""What a benchmark reports."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound the measured ``value`` must not fall below."""

    name: str
    value: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the value reaches its bound."""
        return self.value >= self.bound


@dataclass(frozen=True)
class BenchResult:
    """Rows of one kind (equal keys) and targets derived from them; ``tables`` holds further rows, of one
    kind each, by name."""

    name: str
    rows: tuple[dict[str, Any], ...]
    targets: tuple[Target, ...]
    tables: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)

    def to_json(self, command: str, versions: dict[str, str]) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "name": self.name,
            "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "rows": list(self.rows),
            "tables": {name: list(rows) for name, rows in self.tables.items()},
            "targets": [
                {"name": t.name, "value": t.value, "bound": t.bound, "holds": t.holds} for t in self.targets
            ],
            "command": command,
            "versions": versions,
        }
