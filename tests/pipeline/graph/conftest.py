"""One Ray for all tests of this folder: starting it costs more than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster import Cluster, start_ray
from pipeline.settings import ClusterSettings
from tests.pipeline.video.media import Clip, make_clip


@pytest.fixture(scope="session")
def ray_here() -> Iterator[Cluster]:
    with start_ray(ClusterSettings(actors=(1, 2), address="local")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short clip, ``a.mp4``."""
    folder = tmp_path_factory.mktemp("catalog")
    make_clip(folder / "a.mp4", Clip(pts=range(0, 14 * 512, 512)))
    return folder
