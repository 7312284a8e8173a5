"""``degradation: auto`` through the whole graph: each video is restored as it needs, or left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import parse_spec
from pipeline.video.rgb import decode_rgb
from tests.operators.estimation.scenes import noisy, pan
from tests.pipeline.films import write_film
from tests.pipeline.graph.jobs import run
from tests.pipeline.video.media import index_of

pytestmark = pytest.mark.usefixtures("ray_here")


def test_each_video_gets_what_it_needs_and_the_manifest_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = pan(96, 128, 6, 3)
    (tmp_path / "in").mkdir()
    clean = write_film(tmp_path / "in" / "clean.mkv", film)
    write_film(tmp_path / "in" / "noisy.mkv", noisy(film, 12.0, 1))
    spec = parse_spec(
        {
            "name": "auto",
            "source": f"{tmp_path}/in/*.mkv",
            "output": str(tmp_path / "out"),
            "enhance": [{"restore": {"degradation": "auto"}}],
            "consistency": {"sharing": "none", "knot_every": 4},
            "encode": {"codec": "ffv1"},
            "cluster": {"actors": [1, 1], "address": "local"},
        }
    )
    summary = run(spec.to_settings())
    rows = {Path(row.video_uri).stem: row for row in summary.rows}
    assert summary.done == 2, summary.rows
    (denoise,) = rows["noisy"].metrics["estimate"]["degradations"]
    assert denoise["noise"] == pytest.approx(12.0 / 255.0, rel=0.15)
    assert rows["clean"].metrics["estimate"]["degradations"] == []
    assert any("nothing is restored" in warning for warning in rows["clean"].warnings)
    source, untouched = index_of(clean), index_of(rows["clean"].output_uri)
    assert untouched.frame_hashes == source.frame_hashes
    path = rows["noisy"].output_uri
    restored = decode_rgb(path, index_of(path), range(6)).astype(float)
    assert ((restored - film) ** 2).mean() < 0.5 * 12.0**2

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a finished video was looked at again")

    # The finished job reads no source, loads no model and plans nothing.
    for place in ("pipeline.graph.prepare_model", "pipeline.video_planner.plan_video"):
        monkeypatch.setattr(place, forbidden)
    assert run(spec.to_settings()).already_done == 2
