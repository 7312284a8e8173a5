"""Signers that cannot sign are refused before any work, in a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa", reason="c2pa-python is not installed: pip install 'reelweave[provenance]'")

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from pipeline.errors import SpecError
from pipeline.settings import JobSettings, ProvenanceSettings
from pipeline.signer import load_signer, with_signer
from tests.support.certificates import SignerFiles, make_signer


def settings_of(files: SignerFiles | None = None, **how: Any) -> JobSettings:
    named = files.settings if files else {}
    return JobSettings("test", 7, ("in.mp4",), "out", provenance=ProvenanceSettings(**{**named, **how}))


@pytest.mark.parametrize(
    ("new_key", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "es256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "es512"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
    ],
)
def test_every_kind_of_key_that_c2pa_knows_signs(
    new_key: Callable[[], Any], algorithm: str, tmp_path: Path
) -> None:
    files = make_signer(tmp_path, new_key=new_key)
    assert load_signer(settings_of(files).provenance).algorithm == algorithm
    assert with_signer(settings_of(files)).provenance.signer == "O=Tests,CN=Archive"


def test_a_key_in_an_older_form_signs(tmp_path: Path) -> None:
    assert with_signer(
        settings_of(make_signer(tmp_path, form=PrivateFormat.TraditionalOpenSSL))
    ).provenance.signer


def test_without_a_signer_a_job_goes_on_unless_it_asks_for_signatures() -> None:
    assert with_signer(settings_of()) == settings_of()
    assert not with_signer(settings_of(c2pa="off")).provenance.signs
    for mode in ("embed", "sidecar"):
        with pytest.raises(
            SpecError, match=r"REELWEAVE_C2PA_CERTIFICATE, or set provenance.c2pa: off"
        ) as told:
            with_signer(settings_of(c2pa=mode))
        assert told.value.field == "provenance.certificate"


def test_half_a_signer_is_refused(tmp_path: Path) -> None:
    files = make_signer(tmp_path)
    with pytest.raises(SpecError, match=r"provenance.key: is missing"):
        with_signer(settings_of(certificate=str(files.certificate)))


def bad_signer(folder: Path, what: str) -> SignerFiles:
    made: dict[str, Callable[[], SignerFiles]] = {
        "expired": lambda: make_signer(folder, days=(-30, -1)),
        "not yet": lambda: make_signer(folder, days=(1, 30)),
        "locked": lambda: make_signer(folder, passphrase=b"open sesame"),
        "for servers": lambda: make_signer(folder, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        "dsa": lambda: make_signer(folder, new_key=lambda: dsa.generate_private_key(1024)),
    }
    files = made.get(what, lambda: make_signer(folder))()
    if what == "absent":
        files.key.unlink()
    if what == "no pem":
        files.certificate.write_bytes(b"\0\1\2")
    if what == "no key":
        files.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    if what == "other key":
        files = dataclasses.replace(files, key=make_signer(folder / "other").key)
    return files


@pytest.mark.parametrize(
    ("what", "field", "why"),
    [
        ("absent", "key", "cannot be read .No such file.*every node"),
        ("no pem", "certificate", "holds no certificate"),
        ("no key", "key", "holds no private key"),
        ("other key", "key", "is not the key of the first certificate"),
        ("expired", "certificate", "is valid from .* and today is"),
        ("not yet", "certificate", "is valid from .* and today is"),
        ("locked", "key", "locked with a passphrase"),
        ("for servers", "certificate", "C2PA cannot sign with it .*emailProtection"),
        ("dsa", "key", "P-256"),
    ],
)
def test_a_signer_that_cannot_sign_is_refused_with_its_field(
    what: str, field: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=why) as told:
        with_signer(settings_of(bad_signer(tmp_path, what)))
    assert told.value.field == f"provenance.{field}"
    assert "PRIVATE KEY" not in str(told.value)
