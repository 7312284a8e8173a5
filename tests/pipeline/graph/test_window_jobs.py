"""Frames that are restored together, through the whole graph: decoded with their halo, cut anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.spec import parse_spec
from pipeline.video.rgb import decode_rgb
from tests.pipeline.films import write_film
from tests.pipeline.graph.jobs import run
from tests.pipeline.test_enhancer import clip
from tests.pipeline.test_windows import BLUR, FRAMES
from tests.pipeline.video.media import index_of

pytestmark = pytest.mark.usefixtures("ray_here")


def test_a_blur_along_time_is_undone_the_same_for_any_cut_into_chunks(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mkv", clip(FRAMES))
    made = []
    for knots_per_chunk in (1, 8):
        spec = parse_spec(
            {
                "name": "time",
                "source": source,
                "output": str(tmp_path / f"out{knots_per_chunk}"),
                "enhance": [{"restore": {"degradation": BLUR, "solver": {"name": "dpir", "steps": 1}}}],
                "consistency": {"sharing": "none", "knot_every": 4, "knots_per_chunk": knots_per_chunk},
                "encode": {"codec": "ffv1"},
                "cluster": {"actors": [1, 2], "address": "local"},
            }
        )
        summary = run(spec.to_settings())
        (row,) = summary.rows
        assert row.status == "done", row.error
        assert (summary.chunks > 1) == (knots_per_chunk == 1)
        made.append(decode_rgb(row.output_uri, index_of(row.output_uri), range(FRAMES)))
    assert np.array_equal(*made)
