"""What published videos say of themselves: the label, the signature, and what both leave alone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

pytest.importorskip("c2pa", reason="c2pa-python is not installed: pip install 'reelweave[provenance]'")

import c2pa

from jobs.spec import parse_spec
from jobs.verify import check_videos, foreign_objects
from pipeline.credentials import Claim, credentials_problem, has_credentials, sign_file
from pipeline.disclosure import SOURCE_TYPE, TAG, XMP_UUID, label_tags, seal, sidecar_of
from pipeline.errors import SourceError, SpecError
from pipeline.failures import raise_if_it_ends_the_run
from pipeline.job_keys import JobKeys
from pipeline.manifest import VideoRow
from pipeline.proof import is_published
from pipeline.settings import JobSettings
from pipeline.signer import SIGNER, load_signer, with_signer
from pipeline.store import Store
from pipeline.work import Failure
from tests.pipeline.direct import run_directly
from tests.pipeline.video.media import Clip, make_clip
from tests.support.certificates import SignerFiles, make_signer

DENOISE = {
    "restore": {"degradation": {"kind": "denoise", "noise": 0.05}, "solver": {"name": "dpir", "steps": 1}}
}


def job(
    source: str, output: Path, container: str = "mp4", enhance: Any = (DENOISE,), **how: Any
) -> JobSettings:
    return with_signer(
        parse_spec(
            {
                "name": "test",
                "source": source,
                "output": str(output),
                "enhance": list(enhance),
                "consistency": {"sharing": "none"},
                "encode": {"preset": "ultrafast", "container": container},
                "provenance": how,
            }
        ).to_settings()
    )


def published(settings: JobSettings) -> VideoRow:
    with pytest.MonkeyPatch.context() as patch:
        (row,) = run_directly(settings, patch).values()
    return row


def credentials_of(path: str, sidecar: bytes | None = None) -> dict[str, Any]:
    with (
        open(path, "rb") as file,
        c2pa.Reader("video/mp4" if sidecar is None else "video/any", file, sidecar) as found,
    ):
        store: dict[str, Any] = json.loads(found.json())
    return store


def active(store: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = store["manifests"][store["active_manifest"]]
    return found


def actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    (found,) = (a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))
    told: list[dict[str, Any]] = found["data"]["actions"]
    return told


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> SignerFiles:
    return make_signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A camera's MP4 with credentials of its own."""
    folder = tmp_path_factory.mktemp("source")
    camera = make_signer(folder / "camera", subject="Camera")
    bare = make_clip(folder / "bare.mp4", Clip(pts=range(0, 6 * 512, 512)))
    signed = str(folder / "film.mp4")
    claim = Claim("film.mp4", "nothing", "", "1", {})
    sign_file(bare, signed, "mp4", bare, claim, load_signer(job(bare, folder, **camera.settings).provenance))
    return signed


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def unsigned(source: str, output: Path) -> VideoRow:
    """Published by a job without a signer, and replaced by `signed`."""
    row = published(job(source, output))
    (output / "unsigned.mp4").write_bytes(Path(row.output_uri).read_bytes())
    return row


@pytest.fixture(scope="module")
def signed(source: str, output: Path, unsigned: VideoRow, signer: SignerFiles) -> Iterator[VideoRow]:
    """The same job with a signer, in the same output."""
    before = {path: path.stat().st_mtime_ns for path in (output / ".work").rglob("*.mkv")}
    assert before
    row = published(job(source, output, **signer.settings))
    assert {path: path.stat().st_mtime_ns for path in (output / ".work").rglob("*.mkv")} == before
    return row


def test_a_signed_mp4_tells_what_was_done_by_what_to_which_source(signed: VideoRow) -> None:
    found = credentials_of(signed.output_uri)
    assert credentials_problem(signed.output_uri, "mp4", None) is None
    assert [status["code"] for status in found["validation_status"]] == ["signingCredential.untrusted"]
    manifest = active(found)
    assert manifest["title"] == "film.mp4"
    assert manifest["signature_info"]["common_name"] == "Archive"
    assert "time" not in manifest["signature_info"]
    opened, edited, transcoded = actions(manifest)
    assert [a["action"] for a in (opened, edited, transcoded)] == [
        "c2pa.opened",
        "c2pa.edited",
        "c2pa.transcoded",
    ]
    assert edited["digitalSourceType"] == SOURCE_TYPE
    assert edited["parameters"]["reelweave.source_sha256"] == signed.source_digest
    assert edited["parameters"]["reelweave.spec_digest"] == signed.spec_digest


def test_the_sources_credentials_stay_as_an_ingredient(source: str, signed: VideoRow) -> None:
    found = credentials_of(signed.output_uri)
    (parent,) = active(found)["ingredients"]
    assert parent["relationship"] == "parentOf"
    assert parent["active_manifest"] == credentials_of(source)["active_manifest"]
    assert found["manifests"][parent["active_manifest"]]["signature_info"]["common_name"] == "Camera"
    assert signed.metrics["provenance"]["source_had_credentials"] is True
    assert signed.metrics["provenance"]["manifest"] == found["active_manifest"]


def test_signing_computes_no_chunk_anew_and_changes_no_picture(unsigned: VideoRow, signed: VideoRow) -> None:
    assert (signed.frames_md5, signed.pts_sha256) == (unsigned.frames_md5, unsigned.pts_sha256)
    assert signed.video_key != unsigned.video_key
    assert signed.output_sha256 != unsigned.output_sha256
    for row in (unsigned, signed):
        checks = row.metrics["verification"]
        assert all(told == "ok" or told.startswith("not applicable") for told in checks.values())


def test_a_rerun_signs_nothing_again(
    source: str, output: Path, signed: VideoRow, signer: SignerFiles
) -> None:
    assert published(job(source, output, **signer.settings)) == signed


def test_verify_takes_the_signed_video_and_a_changed_byte_shows(
    output: Path, signed: VideoRow, tmp_path: Path
) -> None:
    assert check_videos(Store(str(output)), [signed]) == []
    data = bytearray(Path(signed.output_uri).read_bytes())
    data[data.index(b"mdat") + 100] ^= 1
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(data)
    assert "bmffHash.mismatch" in str(credentials_problem(str(changed), "mp4", None))
    assert "cannot be read" in str(credentials_problem(str(output / "unsigned.mp4"), "mp4", None))


def test_nothing_below_the_output_holds_the_private_key(
    output: Path, signed: VideoRow, signer: SignerFiles
) -> None:
    secret = signer.key.read_text().splitlines()[1].encode()
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if secret in path.read_bytes() or b"PRIVATE KEY" in path.read_bytes()]


def test_a_changed_mp4_names_the_source_type_in_xmp(output: Path, unsigned: VideoRow) -> None:
    copy = str(output / "unsigned.mp4")
    assert Path(copy).read_bytes().count(XMP_UUID) == 1
    with av.open(copy, options={"export_xmp": "1"}) as file:
        assert f'DigitalSourceType="{SOURCE_TYPE}"' in file.metadata["xmp"]
    assert unsigned.metrics["provenance"] == {"source_type": SOURCE_TYPE}


def test_credentials_of_a_source_are_not_lost_silently(
    source: str, unsigned: VideoRow, signed: VideoRow, tmp_path: Path
) -> None:
    assert any(warning.startswith("credentials_dropped: ") for warning in unsigned.warnings)
    assert not any(warning.startswith("credentials_dropped: ") for warning in signed.warnings)
    torn = tmp_path / "torn.mp4"
    data = Path(source).read_bytes()
    for size in (0, 7, 20, 40, data.index(b"mdat") + 10):
        torn.write_bytes(data[:size])
        assert has_credentials(str(torn)) == (size > 100)
    assert not has_credentials(str(make_clip(tmp_path / "bare.mp4")))


@pytest.mark.parametrize("container", ["mkv", "mov"])
def test_other_containers_name_the_source_type_as_they_can(
    container: str, source: str, tmp_path: Path
) -> None:
    row = published(job(source, tmp_path, container))
    with av.open(row.output_uri, options={"export_xmp": "1"} if container == "mov" else {}) as file:
        assert SOURCE_TYPE in file.metadata["xmp" if container == "mov" else TAG]
    assert check_videos(Store(str(tmp_path)), [row]) == []


def test_label_and_signature_are_off_when_the_job_says_so(
    source: str, signer: SignerFiles, tmp_path: Path
) -> None:
    off = published(job(source, tmp_path / "off", label=False, c2pa="off", **signer.settings))
    assert off.metrics["provenance"] == {"source_type": ""}
    assert XMP_UUID not in Path(off.output_uri).read_bytes()


def test_a_matroska_file_has_its_credentials_beside_it(
    source: str, signer: SignerFiles, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    row = published(job(source, tmp_path, "mkv", **signer.settings))
    place = sidecar_of(row)
    assert place == "videos/film.c2pa"
    found = active(credentials_of(row.output_uri, store.read(place)))
    assert found["ingredients"][0]["active_manifest"]
    assert actions(found)[1]["digitalSourceType"] == SOURCE_TYPE
    assert check_videos(store, [row]) == []
    assert foreign_objects(store, [row]) == []
    assert is_published(store, row)
    store.put(place, credentials_sidecar_of_another(source, tmp_path, signer))
    assert "do not hold" in check_videos(store, [row])[0].problem
    store.delete(place)
    assert "missing; run the job again" in check_videos(store, [row])[0].problem
    assert not is_published(store, row)
    again = published(job(source, tmp_path, "mkv", **signer.settings))
    assert (again.frames_md5, check_videos(store, [again])) == (row.frames_md5, [])
    bare = published(job(source, tmp_path, "mkv", c2pa="off"))
    assert sidecar_of(bare) is None
    assert not store.exists(place)


def credentials_sidecar_of_another(source: str, folder: Path, files: SignerFiles) -> bytes:
    claim = Claim("other", "other", "", "1", {})
    signer = load_signer(job(source, folder, **files.settings).provenance)
    return sign_file(source, str(folder / "other"), "", source, claim, signer).manifest


def test_a_renewed_certificate_publishes_nothing_again_and_another_name_does(
    source: str, signer: SignerFiles, tmp_path: Path
) -> None:
    def keys(files: SignerFiles | None, **how: Any) -> str:
        named = files.settings if files else {}
        return JobKeys(job(source, tmp_path, **named, **how), "m", "cpu").video("s", "mp4")

    renewed, other = make_signer(tmp_path / "new"), make_signer(tmp_path / "other", subject="Studio")
    assert keys(renewed) == keys(signer) == keys(signer, c2pa="embed")
    assert (
        len({keys(signer), keys(other), keys(None), keys(signer, c2pa="sidecar"), keys(None, label=False)})
        == 5
    )
    assert keys(None) == keys(None, c2pa="off")


def test_a_source_that_c2pa_cannot_parse_is_an_ingredient_without_credentials(
    signer: SignerFiles, source: str, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"\0\0\0\x08ftypisom" + b"\xff" * 99)
    claim = Claim("a", "odd.bin", "", "1", {})
    files = load_signer(job(source, tmp_path, **signer.settings).provenance)
    told = sign_file(source, str(tmp_path / "signed.mp4"), "mp4", str(odd), claim, files)
    assert not told.had_credentials
    assert active(credentials_of(str(tmp_path / "signed.mp4")))["ingredients"][0]["title"] == "odd.bin"


def test_what_cannot_be_signed_is_refused_by_its_name(
    signer: SignerFiles, source: str, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(io.BytesIO(b"\0\0\0\x10ftyp").getvalue() * 3)
    files = load_signer(job(source, tmp_path, **signer.settings).provenance)
    with pytest.raises(
        SourceError, match=r"film.mp4: its output could not be signed .* set provenance.c2pa"
    ) as told:
        sign_file(
            str(torn), str(tmp_path / "s.mp4"), "mp4", source, Claim("a", "film.mp4", "", "1", {}), files
        )
    assert told.value.code == "credentials_failed"


def test_a_signer_that_vanishes_while_a_job_runs_stops_it_and_blames_no_video(
    source: str, tmp_path: Path
) -> None:
    files = make_signer(tmp_path / "signer")
    settings = job(source, tmp_path / "out", **files.settings)
    files.key.unlink()
    with pytest.raises(SpecError, match=r"every node that publishes needs it") as told:
        published(settings)
    assert told.value.facts["code"] == SIGNER
    with pytest.raises(SpecError):
        raise_if_it_ends_the_run(Failure(SIGNER, str(told.value), retry=False))
    assert not list((tmp_path / "out").rglob("videos/*"))


def test_a_video_that_no_model_changed_is_signed_without_a_source_type(
    source: str, signer: SignerFiles, unsigned: VideoRow, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(Path(source).read_bytes())
    how = job(source, tmp_path, **signer.settings).provenance
    sealed = seal(str(copy), source, "videos/copy.mp4", unsigned, how, changed=False)
    assert sealed.record["source_type"] == ""
    assert [a["action"] for a in actions(active(credentials_of(sealed.path)))] == [
        "c2pa.opened",
        "c2pa.transcoded",
    ]
    assert XMP_UUID not in Path(sealed.path).read_bytes()
    assert label_tags(how, "mkv", changed=False) == {}
