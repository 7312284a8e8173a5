"""Cluster settings that cannot work are refused at once; a Ray that does not start is said to be busy."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from pipeline.cluster import start_ray
from pipeline.errors import RunError, SpecError
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


def test_a_machine_too_busy_to_start_ray_is_a_failed_run_that_may_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def too_slow(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", too_slow)
    with pytest.raises(RunError, match=r"Ray did not start .* run again"):
        start_ray(ClusterSettings(address="local")).__enter__()


def takes_sigterm_over(**options: object) -> None:
    """As ray.init does."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))


def is_terminated_meanwhile(**options: object) -> None:
    takes_sigterm_over()
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("starting", "ends"), [(takes_sigterm_over, SpecError), (is_terminated_meanwhile, KeyboardInterrupt)]
)
def test_rays_own_way_to_take_a_termination_is_undone_and_what_it_did_meanwhile_is_an_interruption(
    starting: Callable[..., None], ends: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", starting)
    monkeypatch.setattr("pipeline.cluster._survey", refuse)
    try:
        with pytest.raises(ends):
            start_ray(ClusterSettings(address="local")).__enter__()
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse(*arguments: object, **options: object) -> None:
    raise SpecError("no cluster here")
