"""`reelweave run` from and to a real S3 server, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.manifest import read_video_rows
from pipeline.store import Store
from tests.pipeline.video.media import Clip, make_clip
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3 import S3Bucket


def reelweave(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ),
        check=False,
    )


def write_job(folder: Path, s3: S3Bucket, **changes: object) -> Path:
    job = {
        "name": "on-s3",
        "source": f"{s3.url}/in/**/*.mp4",
        "output": f"{s3.url}/out/",
        "storage": {"endpoint_url": s3.endpoint_url},
        "enhance": [],
        "encode": {"preset": "ultrafast"},
        "consistency": {"knot_every": 4, "knots_per_chunk": 2},
        "cluster": {"address": "local"},
        **changes,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAREELWEAVETESTONLY",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEXAMPLEsessionTOKEN0123456789",
}


def _assert_no_secrets(store: Store, *said: str) -> None:
    """Neither among all objects below the output nor in what commands said."""
    texts = {f"output {number}": text.encode() for number, text in enumerate(said)}
    texts |= {path: store.read(path) for path in store.list("out")}
    assert len(texts) > 10
    for place, text in texts.items():
        for name, secret in SECRETS.items():
            assert secret.encode() not in text, f"{name} in {place}"


@pytest.mark.slow
def test_a_catalog_on_s3_is_planned_run_verified_and_reported(
    s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("REELWEAVE_DEBUG", "1")
    store = Store(s3.url, s3.storage)
    for name in ("a.mp4", "deep/b ü.mp4"):
        clip = make_clip(tmp_path / "clip.mp4", Clip(pts=range(0, 9 * 512, 512), audio="aac"))
        store.put_file(f"in/{name}", clip)
    store.put("in/bad.mp4", b"<Error><Code>AccessDenied</Code></Error>")
    job = write_job(tmp_path, s3)

    planned = reelweave("plan", str(job), "--json")
    facts = json.loads(planned.stdout)
    assert (facts["videos"], facts["frames"], facts["chunks_done"]) == (3, 18, 0)
    assert [item["code"] for item in facts["rejected"]] == ["not_a_video"]

    ran = reelweave("run", str(job))
    assert ran.returncode == 3, ran.stderr
    assert "Traceback" not in ran.stderr
    assert sorted(store.list("out/videos")) == ["out/videos/a.mp4", "out/videos/deep/b ü.mp4"]

    status = reelweave("status", f"{s3.url}/out/", "--json", "--endpoint-url", s3.endpoint_url)
    counts = json.loads(status.stdout)
    assert (counts["done"], counts["quarantined"], counts["left"]) == (2, 1, 0)

    verified = reelweave("verify", f"{s3.url}/out/", "--json", "--endpoint-url", s3.endpoint_url)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout) == {"checked": 2, "bad": []}

    again = reelweave("run", str(job))
    assert again.returncode == 3
    assert "2 before this run" in again.stderr

    report = reelweave("report", f"{s3.url}/out/", "--endpoint-url", s3.endpoint_url)
    assert report.returncode == 0, report.stderr
    commands = (planned, ran, status, verified, again, report)
    _assert_no_secrets(store, *(text for done in commands for text in (done.stdout, done.stderr)))


@pytest.mark.slow
def test_a_run_over_a_bad_network_publishes_what_a_calm_one_does(s3: S3Bucket, tmp_path: Path) -> None:
    store = Store(s3.url, s3.storage)
    store.put_file("in/a.mp4", make_clip(tmp_path / "clip.mp4", Clip(pts=range(0, 9 * 512, 512))))
    calm = reelweave("run", str(write_job(tmp_path, s3, output=f"{s3.url}/calm/")))
    assert calm.returncode == 0, calm.stderr
    faults = (
        Fault("GET", "slow_down", 1, "list-type"),
        Fault("GET", "truncated", 2, "/in/a.mp4"),
        Fault("GET", "reset", 2, "/.work/"),
        Fault("GET", "damaged", 1, "/.work/"),
        Fault("PUT", "lost", 2, "/.work/"),
        Fault("PUT", "slow_down", 2, "/.work/"),
        Fault("PUT", "lost", 1, "/videos/a.mp4"),
        Fault("PUT", "lost", 1, "/manifests/videos/"),
        Fault("HEAD", "error", 3),
        Fault("DELETE", "reset", 1),
    )
    with fault_proxy(s3.endpoint_url, *faults) as proxy:
        storage = {"endpoint_url": proxy.endpoint_url}
        ran = reelweave("run", str(write_job(tmp_path, s3, output=f"{s3.url}/bad/", storage=storage)))
        assert ran.returncode == 0, ran.stderr
        assert proxy.exhausted, [fault for fault in proxy.faults if fault.times]
    rows = [read_video_rows(Store(f"{s3.url}/{out}", s3.storage)) for out in ("calm", "bad")]
    ((calm_row,), (bad_row,)) = rows
    for name in ("video_key", "output_rel", "frames", "frames_md5", "pts_sha256", "output_sha256"):
        assert getattr(bad_row, name) == getattr(calm_row, name), name
    assert store.sha256("bad/videos/a.mp4") == bad_row.output_sha256


def test_an_unreachable_endpoint_is_refused_before_any_work(s3: S3Bucket, tmp_path: Path) -> None:
    job = write_job(tmp_path, s3, storage={"endpoint_url": "http://127.0.0.1:9"})
    ran = reelweave("run", str(job))
    assert ran.returncode == 2
    assert "storage.endpoint_url" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_output_inside_the_source_glob_is_refused(s3: S3Bucket, tmp_path: Path) -> None:
    job = write_job(tmp_path, s3, source=f"{s3.url}/**/*.mp4")
    Store(s3.url, s3.storage).put("in/a.mp4", b"x")
    ran = reelweave("run", str(job))
    assert ran.returncode == 2
    assert "output" in ran.stderr
