"""What travels between steps: a row of facts, with arrays while they are needed."""

from __future__ import annotations

from typing import Any

import numpy as np

#: ``status`` ("ok" or "failed"), ``failure`` (JSON), ``task`` (JSON of a UnitTask), arrays while they are
#: needed, and about a kilobyte of facts.
Row = dict[str, Any]

#: Begins the names of masks among what a decoded unit carries.
MASK = "mask/"
NO_FRAMES = np.zeros((0, 0, 0, 3), dtype=np.uint8)
