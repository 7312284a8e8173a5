"""A mask video through the whole graph: the same frames for any cut into chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.spec import parse_spec
from pipeline.video.rgb import decode_rgb
from tests.pipeline.films import write_film
from tests.pipeline.graph.jobs import run
from tests.pipeline.test_enhancer import clip
from tests.pipeline.test_mask_videos import FRAMES, moving_holes
from tests.pipeline.video.media import index_of

pytestmark = pytest.mark.usefixtures("ray_here")


def test_moving_holes_are_filled_the_same_for_any_cut_into_chunks(tmp_path: Path) -> None:
    truth, holes = clip(FRAMES), moving_holes()
    item = {"kind": "inpainting", "mask": write_film(tmp_path / "mask.mkv", holes)}
    made = []
    for knots_per_chunk in (1, 8):
        spec = parse_spec(
            {
                "name": "holes",
                "source": write_film(tmp_path / "film.mkv", np.where(holes > 0, 255, truth)),
                "output": str(tmp_path / f"out{knots_per_chunk}"),
                "enhance": [{"restore": {"degradation": item, "solver": {"name": "dpir", "steps": 1}}}],
                "consistency": {"sharing": "none", "knot_every": 4, "knots_per_chunk": knots_per_chunk},
                "encode": {"codec": "ffv1"},
                "cluster": {"actors": [1, 2], "address": "local"},
            }
        )
        summary = run(spec.to_settings())
        (row,) = summary.rows
        assert row.status == "done", row.error
        assert summary.chunks == (2 if knots_per_chunk == 1 else 1)
        made.append(decode_rgb(row.output_uri, index_of(row.output_uri), range(FRAMES)))
    assert np.array_equal(*made)
    hidden = holes > 0
    broken = abs(255 - truth[hidden].astype(int)).mean()
    assert abs(made[0][hidden].astype(int) - truth[hidden]).mean() < 0.5 * broken
