"""Whatever a source is called, its output lies below the root, can be stored and can be found."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog import CatalogEntry, output_relative, resolve_catalog
from pipeline.errors import SpecError
from pipeline.output_names import safe_relative
from pipeline.settings import StorageSettings
from pipeline.store import Store
from tests.support.s3 import S3Bucket, client

NAMES = st.text(st.characters(codec="utf-8"), max_size=40)
HOSTILE = st.lists(
    st.sampled_from(["..", ".", "", "\0", ".tmp-x", "%2E", "~", "a", "x" * 300, "é" * 200, "\udcff" * 250])
    | NAMES,
    min_size=1,
    max_size=12,
).map("/".join)


@given(HOSTILE)
def test_any_name_gives_a_path_that_stays_below_the_root_and_fits(name: str) -> None:
    rel = output_relative(CatalogEntry("uri", name), "webm")
    inside = os.path.normpath(Store("/out").uri(rel))
    assert inside.startswith("/out/videos/")
    assert inside == f"/out/{rel}", "no part was left for the file system to interpret"
    encoded = os.fsencode(rel) if all(ord(c) < 0xD800 or ord(c) > 0xDFFF for c in rel) else b""
    assert len(encoded) < 1024 - 200
    for part in rel.split("/"):
        assert not part.startswith(".tmp-"), "no listing would show it"
        assert len(part.encode("utf-8", "surrogatepass")) <= 255


@given(NAMES.filter(lambda name: "\0" not in name and name.strip("./") == name and "/" not in name and name))
def test_ordinary_names_pass_through_unchanged(name: str) -> None:
    assert safe_relative(f"folder/{name}") == f"folder/{name}"


@pytest.mark.parametrize(
    "name", ["CON.mp4", "aux", "a\\b.mp4", "trailing. ", "~tilde", "%2E%2E/x", "new\nline.mp4", "*?.mp4", "…"]
)
def test_names_that_only_other_systems_reserve_pass_through_unchanged(name: str) -> None:
    assert safe_relative(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/cron.d/x", "%2E%2E/%2E%2E/etc/cron.d/x"),
        ("a/./b", "a/%2E/b"),
        ("/etc/passwd", "%00/etc/passwd"),
        ("a//b", "a/%00/b"),
        ("nul\0byte", "nul%00byte"),
        (".tmp-hidden", "%2Etmp-hidden"),
    ],
)
def test_what_could_leave_or_hide_is_spelled_out(name: str, safe: str) -> None:
    assert safe_relative(name) == safe


def test_long_names_keep_their_beginning_and_stay_apart() -> None:
    first, second = (f"{'é' * 200}-{end}" for end in "ab")
    assert safe_relative(first).startswith("é" * 90)
    assert safe_relative(first) != safe_relative(second)
    deep = "/".join(["x" * 100] * 20)
    assert safe_relative(deep) != safe_relative("y/" + deep)


def test_every_safe_name_can_be_stored_and_listed(store: Store) -> None:
    names = ["../../x", "/abs", "a//b", "é" * 300, "n\0l", ".tmp-1", unicodedata.normalize("NFD", "ü"), "ü"]
    paths = [output_relative(CatalogEntry("uri", name), "mp4") for name in names]
    assert len(set(paths)) == len(names)
    for number, path in enumerate(paths):
        store.put(path, b"%d" % number)
    assert store.list("videos") == sorted(paths)
    assert [store.read(path) for path in paths] == [b"%d" % number for number in range(len(names))]


def test_a_list_of_hostile_sources_is_confined_below_the_output(s3: S3Bucket, tmp_path: Path) -> None:
    keys = ["in/../../up.mp4", "/etc/passwd.mp4", "in/./dot.mp4", "in//empty.mp4", "in/plain.mp4"]
    for key in keys:
        client(s3.endpoint_url).put_object(Bucket=s3.name, Key=key, Body=b"x")
    listing = tmp_path / "list.parquet"
    pq.write_table(pa.table({"uri": [f"{s3.url}/{key}" for key in keys]}), listing)
    entries = resolve_catalog([str(listing)], str(tmp_path / "out"), s3.storage)
    places = {entry.uri: output_relative(entry, "mp4") for entry in entries}
    assert len(set(places.values())) == len(keys)
    assert places[f"{s3.url}/in/../../up.mp4"] == "videos/in/%2E%2E/%2E%2E/up.mp4"
    store = Store(str(tmp_path / "out"))
    for place in places.values():
        store.put(place, b"video")
    outside = [
        path for path in tmp_path.rglob("*.mp4") if not path.is_relative_to(tmp_path / "out" / "videos")
    ]
    assert outside == []


@pytest.mark.parametrize(
    "uri",
    [
        "https://host/a.mp4?X-Amz-Credential=AKIA123&X-Amz-Signature=0a1b2c",
        "https://account.host/a.mp4?sv=1&sig=abcdef",
        "ftp://me:hunter2hunter2@host/a.mp4",
    ],
)
def test_a_source_address_that_is_a_key_is_refused_and_not_repeated(tmp_path: Path, uri: str) -> None:
    listing = tmp_path / "list.parquet"
    pq.write_table(pa.table({"uri": [uri, "/in/a.mp4"]}), listing)
    with pytest.raises(SpecError, match="carries credentials in its address") as caught:
        resolve_catalog([str(listing)], str(tmp_path / "out"), StorageSettings())
    assert caught.value.field == "source"
    for secret in ("0a1b2c", "AKIA123", "abcdef", "hunter2"):
        assert secret not in str(caught.value)
