"""The `ray up` file, against the schema that the pinned Ray brings."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.infra.files import ROOT, only

CLUSTER = only("ray", "aws-spot.yaml")


def test_rays_own_schema_accepts_it() -> None:
    validate_config(prepare_config(copy.deepcopy(CLUSTER)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_workers": "eight"},
        {"idle_minutes": 5},
        {"docker": {"image": "x", "container_name": "y", "gpu": 1}},
    ],
    ids=["a word for a number", "an unknown key", "an unknown key of docker"],
)
def test_the_schema_refuses_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**copy.deepcopy(CLUSTER), **wrong}))


def test_the_head_is_on_demand_and_does_no_work_and_workers_are_spot() -> None:
    types = CLUSTER["available_node_types"]
    head = types[CLUSTER["head_node_type"]]
    (worker,) = [kind for name, kind in types.items() if name != CLUSTER["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert 1 <= worker["min_workers"] <= worker["max_workers"] <= CLUSTER["max_workers"]


def test_nodes_reach_storage_by_their_profile_and_folders_that_are_sent_exist() -> None:
    for kind in CLUSTER["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Name"]
    for local in CLUSTER["file_mounts"].values():
        assert (ROOT / local).is_dir()
