"""tOF: does the output move as the source does?"""

from __future__ import annotations

import numpy as np

from operators.flow.dis import Flow


def flow_difference(output: Flow, source: Flow) -> float:
    """Mean over pixels of |du| + |dv| between the DIS flows of output and source, in pixels.

    tOF of Chu et al. 2020 (TecoGAN), an L1 distance; per pixel and not summed, our reading.
    """
    return float(np.abs(output - source).sum(2).mean(dtype=np.float64))
