"""The S3 for development listens on this machine alone, and its server is one fixed release."""

from __future__ import annotations

import re

from tests.infra.files import images, only

COMPOSE = only("storage", "compose.yaml")


def test_both_services_run_one_fixed_release() -> None:
    (image,) = set(images(COMPOSE))
    assert re.fullmatch(r"quay\.io/minio/minio:RELEASE\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", image)


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = COMPOSE["services"]["s3"]["ports"]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_bucket_is_made_once_the_server_is_healthy() -> None:
    assert COMPOSE["services"]["bucket"]["depends_on"] == {"s3": {"condition": "service_healthy"}}
    assert COMPOSE["services"]["s3"]["healthcheck"]["test"][0] == "CMD"
    assert set(COMPOSE["services"]["s3"]["volumes"][0].split(":")[:1]) == set(COMPOSE["volumes"])
