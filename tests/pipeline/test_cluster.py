"""Cluster settings that cannot work are refused at once."""

from __future__ import annotations

import time

import pytest

from pipeline.cluster import start_ray
from pipeline.errors import SpecError
from pipeline.settings import ClusterSettings


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_address_where_nobody_listens_is_refused_quickly(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    begun = time.monotonic()
    with pytest.raises(SpecError) as caught, start_ray(ClusterSettings(address=address)):
        pass
    assert caught.value.field == "cluster.address"
    assert address in str(caught.value)
    assert time.monotonic() - begun < 20
