"""Storage on a bad day: every operation under every fault gives the right bytes or a typed error."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import s3_objects
from pipeline.commit import publish_video
from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.lease import Fence, hold_lease
from pipeline.manifest import VideoRow, read_video_rows
from pipeline.retry import RetryPolicy
from pipeline.settings import StorageSettings
from pipeline.store import Store
from tests.support.fault_proxy import Fault, FaultProxy, Kind, fault_proxy
from tests.support.s3 import S3Bucket, client

QUICK = RetryPolicy(attempts=6, seconds=20.0, base=0.01, cap=0.05)
DATA = bytes(range(256)) * 800  # longer than one packet
UNPACED = {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}}


@pytest.fixture
def proxy(s3: S3Bucket) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def shaky(s3: S3Bucket, proxy: FaultProxy) -> Store:
    """The bucket as seen through the proxy."""
    return Store(s3.url, StorageSettings(proxy.endpoint_url, UNPACED), QUICK)


@pytest.fixture
def sound(s3: S3Bucket) -> Store:
    """The bucket itself."""
    return Store(s3.url, s3.storage)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that goes up in three parts of the smallest size that S3 allows."""
    monkeypatch.setattr(s3_objects, "_PART_BYTES", 5 << 20)
    monkeypatch.setattr(s3_objects, "_LARGEST_PUT", 10 << 20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * 11)
    return path


def _uploads(s3: S3Bucket) -> list[object]:
    return list(client(s3.endpoint_url).list_multipart_uploads(Bucket=s3.name).get("Uploads", []))


BEFORE_THE_SERVER: list[Kind] = ["slow_down", "error", "reset"]


@pytest.mark.parametrize("kind", [*BEFORE_THE_SERVER, "lost", "slow"])
def test_a_create_is_ours_whatever_happened_to_its_answer(
    shaky: Store, sound: Store, proxy: FaultProxy, kind: Kind
) -> None:
    proxy.faults.append(Fault("PUT", kind, times=1 if kind == "slow" else 2))
    assert shaky.put_new("row", DATA)
    assert proxy.exhausted
    assert sound.read("row") == DATA


def test_a_create_whose_refusal_is_lost_is_known_to_be_refused(
    shaky: Store, sound: Store, proxy: FaultProxy
) -> None:
    sound.put_new("row", b"same bytes")
    proxy.faults.append(Fault("PUT", "lost"))
    assert not shaky.put_new("row", b"same bytes")


@pytest.mark.parametrize("kind", [*BEFORE_THE_SERVER, "lost"])
def test_a_conditional_replacement_is_ours_whatever_happened_to_its_answer(
    shaky: Store, sound: Store, proxy: FaultProxy, tmp_path: Path, kind: Kind
) -> None:
    (tmp_path / "new").write_bytes(b"new")
    sound.put("video", b"old")
    seen = shaky.stat("video")
    proxy.faults.append(Fault("PUT", kind))
    assert shaky.replace_file("video", tmp_path / "new", seen)
    assert proxy.exhausted
    assert sound.read("video") == b"new"


@pytest.mark.parametrize("kind", [*BEFORE_THE_SERVER, "lost"])
def test_writes_and_deletes_are_repeated(shaky: Store, sound: Store, proxy: FaultProxy, kind: Kind) -> None:
    proxy.faults += [Fault("PUT", kind, times=2), Fault("DELETE", kind, times=2), Fault("HEAD", kind)]
    shaky.put("a", DATA)
    assert sound.read("a") == DATA
    assert shaky.size("a") == len(DATA)
    shaky.delete("a")
    assert not sound.exists("a")
    assert proxy.exhausted


@pytest.mark.parametrize("kind", [*BEFORE_THE_SERVER, "lost", "truncated", "damaged", "slow"])
def test_reading_gives_the_bytes_that_were_written(
    shaky: Store, sound: Store, proxy: FaultProxy, tmp_path: Path, kind: Kind
) -> None:
    sound.put("a", DATA)
    proxy.faults.append(Fault("GET", kind, times=1 if kind == "slow" else 2, target="/a"))
    assert shaky.read("a") == DATA
    assert proxy.exhausted
    proxy.faults.append(Fault("GET", kind, target="/a"))
    shaky.get_file("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    proxy.faults.append(Fault("GET", kind, target="/a"))
    assert shaky.sha256("a") == hashlib.sha256(DATA).hexdigest()


def test_a_broken_body_is_continued_and_not_begun_again(
    shaky: Store, sound: Store, proxy: FaultProxy
) -> None:
    sound.put("a", DATA)
    # Each answer brings half of what is missing: more tries than the policy allows without progress.
    proxy.faults.append(Fault("GET", "truncated", times=QUICK.attempts + 2, target="/a"))
    assert shaky.read("a") == DATA
    assert proxy.exhausted


def test_an_object_that_stays_damaged_is_never_handed_out(
    shaky: Store, sound: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    sound.put("a", DATA)
    proxy.faults.append(Fault("GET", "damaged", times=100, target="/a"))
    with pytest.raises(StoreError, match="given up after 6 tries"):
        shaky.get_file("a", tmp_path / "a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", [*BEFORE_THE_SERVER, "truncated"])
def test_listings_are_repeated(shaky: Store, sound: Store, proxy: FaultProxy, kind: Kind) -> None:
    sound.put("d/a", b"1")
    proxy.faults.append(Fault("GET", kind, times=2, target="list-type"))
    assert shaky.list("d") == ["d/a"]
    assert proxy.exhausted


def test_a_listing_that_is_out_of_date_costs_neither_lease_nor_truth(
    shaky: Store, sound: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    for run in range(2):
        with hold_lease(shaky, f"run-{run}"):
            pass
    with hold_lease(sound, "elsewhere"):
        pass
    proxy.faults.append(Fault("GET", "stale", target="leases"))
    with hold_lease(shaky, "behind") as held:
        assert held.fence.token == 4
        held.fence.check(shaky)
    assert proxy.exhausted

    (tmp_path / "video").write_bytes(b"film")
    row = VideoRow("/in/a.mp4", "k" * 64, "done")
    assert read_video_rows(shaky) == []
    published = publish_video(sound, tmp_path / "video", "videos/a.mp4", row, Fence(4))
    proxy.faults.append(Fault("GET", "stale", times=2, target="manifests%2Fvideos"))
    assert read_video_rows(shaky) == [], "the listing is from before"
    again = publish_video(shaky, tmp_path / "video", "videos/a.mp4", row, Fence(4))
    assert again == published
    assert read_video_rows(shaky) == [published]


@pytest.mark.parametrize(
    ("operation", "method", "words"),
    [("read", "GET", "read it"), ("put", "PUT", "write it"), ("put_new", "PUT", "create it")],
)
def test_a_service_that_stays_away_is_an_error_that_names_operation_key_and_tries(
    shaky: Store, proxy: FaultProxy, operation: str, method: str, words: str
) -> None:
    proxy.faults += [Fault(method, "slow_down", times=1000), Fault("HEAD", "slow_down", times=1000)]
    begun = time.monotonic()
    with pytest.raises(StoreError, match="run the job again to resume") as caught:
        getattr(shaky, operation)(*(("a",) if operation == "read" else ("a", b"1")))
    assert time.monotonic() - begun < 2 * QUICK.seconds + 10.0
    facts = caught.value.facts
    assert facts["uri"].endswith("/a")
    assert facts["operation"] == words
    assert facts["attempts"] == QUICK.attempts
    assert "SlowDown" in str(caught.value)


def test_throttling_slows_all_requests_of_a_process_down_for_a_while(s3: S3Bucket, proxy: FaultProxy) -> None:
    store = Store(s3.url, StorageSettings(proxy.endpoint_url), QUICK)
    store.put("a", b"1")
    proxy.faults.append(Fault("GET", "slow_down", times=2, target="/a"))
    assert store.read("a") == b"1"
    begun = time.monotonic()
    for _ in range(3):
        store.read("a")
    assert time.monotonic() - begun > 0.5, "three reads of one byte take milliseconds when nobody paces them"


def test_what_will_not_pass_is_not_repeated(shaky: Store, proxy: FaultProxy) -> None:
    with pytest.raises(ObjectMissingError):
        shaky.read("nothing")
    assert proxy.count("GET") == 1


@pytest.mark.parametrize("kind", [*BEFORE_THE_SERVER, "lost"])
@pytest.mark.parametrize("step", ["uploads", "partNumber=2", "uploadId"])
def test_a_large_file_goes_up_in_parts_through_every_fault(
    s3: S3Bucket, shaky: Store, sound: Store, proxy: FaultProxy, large: Path, step: str, kind: Kind
) -> None:
    method = "PUT" if step.startswith("part") else "POST"
    proxy.faults.append(Fault(method, kind, target=step))
    shaky.put_file("big", large)
    assert proxy.exhausted
    assert any("partNumber=3" in target for _, target in proxy.seen)
    assert sound.sha256("big") == hashlib.sha256(large.read_bytes()).hexdigest()
    # An upload that was begun twice because its first answer was lost is nobody's until it is discarded.
    assert len(_uploads(s3)) == (1 if (step, kind) == ("uploads", "lost") else 0)
    sound.discard_unfinished()
    assert _uploads(s3) == []


@pytest.mark.parametrize("step", ["partNumber=2", "partNumber=3"])
def test_an_upload_that_fails_is_discarded_and_shows_nothing(
    s3: S3Bucket, shaky: Store, sound: Store, proxy: FaultProxy, large: Path, step: str
) -> None:
    proxy.faults.append(Fault("PUT", "error", times=100, target=step))
    with pytest.raises(StoreError, match="InternalError"):
        shaky.put_file("big", large)
    assert _uploads(s3) == []
    assert not sound.exists("big")


def test_what_a_killed_uploader_left_is_discarded_below_the_root_only(s3: S3Bucket, large: Path) -> None:
    for key in ("out/videos/a.mp4", "elsewhere/b.mp4"):
        client(s3.endpoint_url).create_multipart_upload(Bucket=s3.name, Key=key)
    assert Store(f"{s3.url}/out", s3.storage).discard_unfinished() == 1
    assert [upload["Key"] for upload in _uploads(s3)] == ["elsewhere/b.mp4"]  # type: ignore[index]


def test_who_may_not_list_uploads_may_run_all_the_same(shaky: Store, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault("GET", "denied", target="uploads"))
    assert shaky.discard_unfinished() == 0
    assert proxy.exhausted


@pytest.mark.parametrize("operation", ["put", "put_new"])
def test_a_write_that_is_not_allowed_is_neither_repeated_nor_taken_for_refused(
    shaky: Store, sound: Store, proxy: FaultProxy, operation: str
) -> None:
    sound.put("a", b"of another")
    proxy.faults.append(Fault("PUT", "denied"))
    with pytest.raises(StoreError, match="check the rights"):
        getattr(shaky, operation)("a", b"1")
    assert proxy.count("PUT") == 0
    assert sound.read("a") == b"of another"


def test_a_large_conditional_replacement_that_is_overtaken_is_refused(
    s3: S3Bucket, sound: Store, large: Path
) -> None:
    sound.put("big", b"old")
    seen = sound.stat("big")
    sound.put("big", b"newer")
    assert not sound.replace_file("big", large, seen)
    assert sound.read("big") == b"newer"
    assert _uploads(s3) == []
