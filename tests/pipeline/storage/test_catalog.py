"""Which videos a job has and where their outputs go, on disk and in S3 alike."""

from __future__ import annotations

import errno
import io
import os
import socket
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import CatalogEntry, output_relative, resolve_catalog
from pipeline.errors import SourceError, SpecError
from pipeline.settings import StorageSettings
from pipeline.source_cache import SourceCache
from pipeline.store import Store
from tests.pipeline.storage.conftest import make_place
from tests.support.s3 import S3Bucket

ODD_NAME = "-dash ünï ☃ 'q' %20.mp4"
OUT = "/elsewhere/out"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageSettings]:
    """Where sources lie: sources of a job are read by many processes."""
    return make_place(request.param, request, tmp_path)


@pytest.fixture
def put(store: Store):
    """Makes empty sources below the root and returns the root's URL."""

    def make(*names: str) -> str:
        for name in names:
            store.put(name, b"")
        return store.root

    return make


def _relatives(entries: list[CatalogEntry]) -> list[str]:
    return [entry.relative for entry in entries]


def _refused(field: str, *words: str):
    class Refusal:
        def __enter__(self) -> None:
            self.context = pytest.raises(SpecError)
            self.caught = self.context.__enter__()

        def __exit__(self, *exc: object) -> bool:
            handled = self.context.__exit__(*exc)
            assert self.caught.value.field == field
            for word in words:
                assert word in str(self.caught.value)
            return bool(handled)

    return Refusal()


def test_a_deep_glob_takes_every_level_and_sorts(store: Store, put) -> None:
    root = put("b.mp4", "a/x.mp4", "a/b/y.mp4", "a/notes.txt")
    entries = resolve_catalog((f"{root}/**/*.mp4",), OUT, store.storage)
    assert _relatives(entries) == ["a/b/y.mp4", "a/x.mp4", "b.mp4"]
    assert [entry.uri for entry in entries] == [f"{root}/{r}" for r in _relatives(entries)]


def test_relative_begins_below_the_fixed_part_of_the_glob(store: Store, put) -> None:
    root = put("2024/jan/a.mp4", "2025/feb/b.mp4")
    assert _relatives(resolve_catalog((f"{root}/202*/*/*.mp4",), OUT, store.storage)) == [
        "2024/jan/a.mp4",
        "2025/feb/b.mp4",
    ]
    assert _relatives(resolve_catalog((f"{root}/2024/jan/?.mp4",), OUT, store.storage)) == ["a.mp4"]


def test_an_odd_name_survives_from_catalog_to_output(store: Store, put) -> None:
    root = put(f"in/{ODD_NAME}")
    for source in (f"{root}/in/*.mp4", f"{root}/in/{ODD_NAME}"):
        (entry,) = resolve_catalog((source,), OUT, store.storage)
        assert entry.uri == f"{root}/in/{ODD_NAME}"
        assert entry.relative == ODD_NAME
        assert output_relative(entry, "mkv") == f"videos/{ODD_NAME[:-4]}.mkv"


def test_a_name_with_glob_letters_that_exists_is_one_file(store: Store, put) -> None:
    root = put("take [1].mp4", "take 1.mp4")
    assert _relatives(resolve_catalog((f"{root}/take [1].mp4",), OUT, store.storage)) == ["take [1].mp4"]


def test_hidden_names_are_left_out_unless_the_pattern_names_them(store: Store, put) -> None:
    root = put("a.mp4", "._a.mp4", ".trash/b.mp4")
    assert _relatives(resolve_catalog((f"{root}/**/*.mp4",), OUT, store.storage)) == ["a.mp4"]
    assert _relatives(resolve_catalog((f"{root}/.trash/*.mp4",), OUT, store.storage)) == ["b.mp4"]
    assert _relatives(resolve_catalog((f"{root}/.tr*/*.mp4",), OUT, store.storage)) == [".trash/b.mp4"]


def test_a_list_is_merged_and_duplicates_count_once(store: Store, put) -> None:
    root = put("a/1.mp4", "b/2.mp4")
    sources = (f"{root}/b/2.mp4", f"{root}/a/*.mp4", f"{root}/a/1.mp4")
    assert _relatives(resolve_catalog(sources, OUT, store.storage)) == ["1.mp4", "2.mp4"]


def test_a_single_file_that_is_absent_stays_in_the_catalog(store: Store, put) -> None:
    root = put("other.mp4")
    assert resolve_catalog((f"{root}/gone.mp4",), OUT, store.storage) == [
        CatalogEntry(f"{root}/gone.mp4", "gone.mp4")
    ]


def test_a_glob_without_a_match_is_refused(store: Store, put) -> None:
    root = put("a.avi")
    with _refused("source", f"{root}/*.mp4", "nothing matches"):
        resolve_catalog((f"{root}/*.mp4",), OUT, store.storage)


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_is_refused_with_the_glob_to_write(store: Store, put, ending: str) -> None:
    root = put("in/a.mp4")
    with _refused("source", f"{root}/in/**/*.mp4"):
        resolve_catalog((f"{root}/in{ending}",), OUT, store.storage)


def test_an_empty_source_is_refused() -> None:
    with _refused("source", "names no video"):
        resolve_catalog((), OUT, StorageSettings())


def test_two_sources_for_one_output_are_refused_by_name(store: Store, put) -> None:
    root = put("a/1.mp4", "b/1.mp4")
    with _refused("source", f"{root}/a/1.mp4", f"{root}/b/1.mp4"):
        resolve_catalog((f"{root}/a/*.mp4", f"{root}/b/*.mp4"), OUT, store.storage)


def test_names_that_differ_by_extension_keep_it(store: Store, put) -> None:
    root = put("a.mp4", "a.mkv", "b.avi")
    entries = resolve_catalog((f"{root}/*.*",), OUT, store.storage)
    assert [output_relative(e, "mp4") for e in entries] == [
        "videos/a.mkv.mp4",
        "videos/a.mp4.mp4",
        "videos/b.mp4",
    ]


def test_a_third_name_that_would_meet_the_kept_extension_is_refused(store: Store, put) -> None:
    root = put("a.mp4", "a.mkv", "a.mp4.avi")
    with _refused("source", "a.mp4.avi"):
        resolve_catalog((f"{root}/*.*",), OUT, store.storage)


def test_a_name_without_extension_gets_one() -> None:
    assert output_relative(CatalogEntry("/in/film", "film"), "mp4") == "videos/film.mp4"
    assert output_relative(CatalogEntry("/in/v1.2/film", "v1.2/film"), "mp4") == "videos/v1.2/film.mp4"


def test_an_output_that_the_glob_would_find_is_refused(store: Store, put) -> None:
    root = put("in/a.mp4")
    for output in (f"{root}/in", f"{root}/in/out/", root):
        with _refused("output", "choose an output outside"):
            resolve_catalog((f"{root}/**/*.mp4",), output, store.storage)


def test_an_output_below_the_source_folder_but_out_of_the_globs_reach_is_fine(store: Store, put) -> None:
    root = put("in/a.mp4")
    assert _relatives(resolve_catalog((f"{root}/in/*.mp4",), f"{root}/in/out", store.storage)) == ["a.mp4"]


def test_a_source_among_the_results_is_refused(store: Store, put) -> None:
    root = put("out/videos/a.mp4")
    with _refused("output", "out/videos/a.mp4"):
        resolve_catalog((f"{root}/out/videos/a.mp4",), f"{root}/out/", store.storage)


def _parquet(**columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_a_parquet_lists_videos_relative_to_their_common_folder(store: Store, put) -> None:
    root = put("in/a/1.mp4", "in/b/1.mp4")
    uris = [f"{root}/in/b/1.mp4", f"{root}/in/a/1.mp4", f"{root}/in/a/1.mp4", f"{root}/in/a/gone [x].mp4"]
    store.put("list.parquet", _parquet(uri=uris, other=[1, 2, 3, 4]))
    entries = resolve_catalog((f"{root}/list.parquet",), OUT, store.storage)
    assert _relatives(entries) == ["a/1.mp4", "a/gone [x].mp4", "b/1.mp4"]


@pytest.mark.parametrize(
    "data",
    [b"no parquet", _parquet(url=["a"]), _parquet(uri=[1]), _parquet(uri=[None]), _parquet(uri=[])],
    ids=["torn", "no column", "numbers", "null", "empty"],
)
def test_a_parquet_without_usable_uris_is_refused(store: Store, data: bytes) -> None:
    store.put("list.parquet", data)
    with _refused("source", "list.parquet"):
        resolve_catalog((f"{store.root}/list.parquet",), OUT, store.storage)


def test_a_parquet_that_is_absent_is_refused(store: Store) -> None:
    store.put("x", b"")
    with _refused("source", "list.parquet"):
        resolve_catalog((f"{store.root}/list.parquet",), OUT, store.storage)


def test_relative_and_file_urls_and_links_mean_the_same_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "linked.mp4").symlink_to("a.mp4")
    sources = ("a.mp4", f"file://{tmp_path}/a.mp4", str(tmp_path / "a.mp4"), "./a.mp4")
    (entry,) = resolve_catalog(sources, OUT, StorageSettings())
    assert entry.uri == f"{tmp_path}/a.mp4"
    assert _relatives(resolve_catalog(("*.mp4",), OUT, StorageSettings())) == ["a.mp4", "linked.mp4"]


def test_a_folder_that_matches_the_glob_is_no_video(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "album.mp4")
    (tmp_path / "a.mp4").touch()
    assert _relatives(resolve_catalog((f"{tmp_path}/*.mp4",), OUT, StorageSettings())) == ["a.mp4"]


def test_a_bucket_that_does_not_exist_is_refused(s3: S3Bucket) -> None:
    for source in ("s3://no-such-bucket-here/a.mp4", "s3://no-such-bucket-here/**/*.mp4"):
        with _refused("source", "no-such-bucket-here", "does not exist"):
            resolve_catalog((source,), OUT, s3.storage)


def test_an_endpoint_where_nobody_listens_is_refused(s3: S3Bucket) -> None:
    begin = time.monotonic()
    for source in (f"{s3.url}/*.mp4", f"{s3.url}/a.mp4"):
        with _refused("storage.endpoint_url", "127.0.0.1:9"):
            resolve_catalog((source,), OUT, StorageSettings("http://127.0.0.1:9"))
    assert time.monotonic() - begin < 40


def test_what_a_glob_finds_and_nobody_can_read_stays_in_to_be_quarantined(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mp4"))
        entries = resolve_catalog((f"{tmp_path}/*.mp4",), OUT, StorageSettings())
    found = {entry.relative: _code(entry.uri) for entry in entries}
    assert found == {
        "a.mp4": "",
        "dangling.mp4": "missing",
        "device.mp4": "unreadable",
        "pipe.mp4": "unreadable",
        "socket.mp4": "unreadable",
    }


def _code(uri: str) -> str:
    try:
        SourceCache("/nowhere", StorageSettings()).version(uri)
    except SourceError as error:
        return error.code
    return ""


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch):
    """Folders named ``shut`` cannot be listed, whoever asks: root may list anything."""
    scandir, access = os.scandir, os.access

    def refusing(path="."):
        if os.fspath(path).endswith("/shut"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(os, "access", lambda p, *how: not str(p).endswith("/shut") and access(p, *how))


@pytest.mark.usefixtures("shut")
@pytest.mark.parametrize(
    ("pattern", "looked_into"),
    [
        ("**/*.mp4", ["2024/deep/shut", "2024/shut", "shut"]),
        ("*/*.mp4", ["shut"]),
        ("20*/*/*.mp4", ["2024/shut"]),
        ("20*/**/*.mp4", ["2024/deep/shut", "2024/shut"]),
        ("*.mp4", []),
    ],
)
def test_a_folder_that_cannot_be_listed_stays_in_where_the_glob_would_have_looked(
    tmp_path: Path, pattern: str, looked_into: list[str]
) -> None:
    for folder in ("shut", "2024/shut", "2024/deep/shut", ".hidden/shut"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.mp4", "2024/a.mp4", "2024/deep/a.mp4"):
        (tmp_path / name).touch()
    entries = resolve_catalog((f"{tmp_path}/{pattern}",), OUT, StorageSettings())
    assert [entry.relative for entry in entries if not entry.relative.endswith(".mp4")] == looked_into
    assert {_code(f"{tmp_path}/{folder}") for folder in looked_into} <= {"unreadable"}


@pytest.mark.usefixtures("shut")
def test_a_glob_whose_own_folder_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir()
    with _refused("source", "cannot be listed"):
        resolve_catalog((f"{tmp_path}/shut/*.mp4",), OUT, StorageSettings())
