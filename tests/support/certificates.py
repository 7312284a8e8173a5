"""Certificates for tests, made anew for each: an authority, and leaves that it issues."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM
_OPEN = serialization.NoEncryption()


@dataclass(frozen=True)
class SignerFiles:
    """PEM files of a signer."""

    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """As the ``provenance`` part of a job names them."""
        return {"certificate": str(self.certificate), "key": str(self.key)}


def make_signer(
    folder: Path,
    *,
    subject: str = "Archive",
    new_key: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP256R1()),
    days: tuple[int, int] = (-1, 30),
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    passphrase: bytes | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> SignerFiles:
    """A leaf of an authority of its own, valid from ``days[0]`` to ``days[1]`` days from now."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, above = _name("Authority"), ec.generate_private_key(ec.SECP256R1())
    root = _certificate(authority, authority, above, above, (-1, 365), authority=True, purposes=())
    key = new_key()
    leaf = _certificate(_name(subject), authority, key, above, days, authority=False, purposes=purposes)
    files = SignerFiles(folder / "chain.pem", folder / "key.pem")
    files.certificate.write_bytes(leaf.public_bytes(PEM) + root.public_bytes(PEM))
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else _OPEN
    files.key.write_bytes(key.private_bytes(PEM, form, lock))
    return files


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"),
        ]
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: Any,
    issuer_key: Any,
    days: tuple[int, int],
    *,
    authority: bool,
    purposes: tuple[x509.ObjectIdentifier, ...],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
