"""status, verify, report and clean on an output in S3, through the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from typer.testing import CliRunner

from jobs.cli import app
from pipeline.manifest import create_done_row, read_video_rows
from pipeline.store import Store
from tests.jobs.media import published_store
from tests.support.s3 import S3Bucket, client

RUNNER = CliRunner()


def uploaded(bucket: S3Bucket, folder: Path) -> Store:
    """The published store of a folder, in S3."""
    local = published_store(folder / "out")
    remote = Store(f"{bucket.url}/out", bucket.storage)
    for path in local.list(""):
        if not path.startswith("manifests/"):
            remote.put(path, local.read(path))
    (row,) = read_video_rows(local)
    create_done_row(remote, dataclasses.replace(row, output_uri=remote.uri(row.output_rel)))
    return remote


def test_every_command_works_on_an_s3_output(s3: S3Bucket, tmp_path: Path) -> None:
    store = uploaded(s3, tmp_path)
    place = [store.root, "--endpoint-url", s3.endpoint_url]
    status = RUNNER.invoke(app, ["status", *place, "--json"])
    assert status.exit_code == 0, status.stderr
    assert json.loads(status.stdout)["done"] == 1
    verify = RUNNER.invoke(app, ["verify", *place, "--json"])
    assert verify.exit_code == 0, verify.stderr
    assert json.loads(verify.stdout) == {"checked": 1, "bad": []}
    assert RUNNER.invoke(app, ["report", *place]).exit_code == 0
    page = store.read("runs/20260102T030405-aaaa/report.html").decode()
    assert page.count("data:image/jpeg") == 1 + 6
    key = "out/runs/20260102T030405-aaaa/report.html"
    kind = client(s3.endpoint_url).head_object(Bucket=s3.name, Key=key)["ContentType"]
    assert kind == "text/html"  # what a browser goes by
    assert RUNNER.invoke(app, ["clean", *place]).exit_code == 0
    assert store.list(".work") == []
    store.put("videos/a.mp4", b"other bytes")
    verify = RUNNER.invoke(app, ["verify", *place, "--json"])
    assert verify.exit_code == 1
    assert json.loads(verify.stdout)["bad"][0]["output_uri"] == store.uri("videos/a.mp4")


def test_a_bucket_that_does_not_exist_is_refused_by_name(s3: S3Bucket) -> None:
    done = RUNNER.invoke(app, ["status", "s3://no-such-bucket/out", "--endpoint-url", s3.endpoint_url])
    assert done.exit_code == 2
    assert "no-such-bucket" in done.stderr
