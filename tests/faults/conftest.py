"""One cluster for all faults of this folder: a head without processors, and nodes that may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest
import ray
from ray.cluster_utils import Cluster

from jobs.bench.outcome import Outcome, read_outcome
from jobs.bench.work_log import WorkLog
from pipeline.cluster import start_ray
from pipeline.settings import ClusterSettings, JobSettings
from pipeline.store import Store
from tests.faults import sabotage
from tests.faults.jobs import Kind, catalog_job, write_catalog
from tests.pipeline.graph.jobs import run
from tests.support.s3 import CREDENTIALS, s3, s3_server

__all__ = ["s3", "s3_server"]

_MEMORY = 100 << 20

T = TypeVar("T")


@dataclass
class Site:
    """Where jobs of the faults run: a cluster, a catalog, and what undisturbed runs left of it."""

    nodes: Cluster
    folder: Path
    calm: dict[Kind, Outcome] = field(default_factory=dict)

    @cached_property
    def catalog(self) -> Path:
        return write_catalog(self.folder / "in")

    def job(self, kind: Kind, output: str | Path) -> JobSettings:
        return catalog_job(kind, self.catalog, str(output), self.nodes.address)

    def undisturbed(self, kind: Kind) -> Outcome:
        """What a job leaves that nothing happened to; each is run once."""
        if kind not in self.calm:
            job = self.job(kind, self.folder / f"calm-{kind}")
            summary = run(job)
            assert (summary.done, summary.quarantined) == (2, 1), summary.rows
            self.calm[kind] = read_outcome(Store(job.output))
        return self.calm[kind]

    def add_node(self) -> None:
        patiently(lambda: self.nodes.add_node(num_cpus=3, object_store_memory=_MEMORY))


def patiently(start: Callable[[], T]) -> T:
    """Ray gives its processes half a minute to start, which a busy machine may not."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ray.shutdown()  # another folder's tests may have left theirs
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        head = {"num_cpus": 0, "object_store_memory": _MEMORY, "include_dashboard": False}
        nodes = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        site = Site(nodes, tmp_path_factory.mktemp("faults"))
        site.add_node()
        ray.cloudpickle.register_pickle_by_value(sabotage)
        try:
            with start_ray(ClusterSettings(address=site.nodes.address)):
                yield site
        finally:
            ray.cloudpickle.unregister_pickle_by_value(sabotage)
            site.nodes.shutdown()


@pytest.fixture
def log(tmp_path: Path) -> WorkLog:
    return WorkLog(tmp_path / "work.log")
