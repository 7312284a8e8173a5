"""The signer of content credentials: a certificate chain and its private key, from files the user names.

What the files hold stays in this process: settings, keys, manifests and logs know their paths and whom the
certificate is issued to. Every node that publishes reads them anew.
"""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import SpecError
from pipeline.settings import JobSettings, ProvenanceSettings

#: ``code`` of a failure that a signer is to blame for, and no video.
SIGNER = "signer_unusable"
_INSTALL = "pip install 'reelweave[provenance]'"
_NODES = "every node that publishes needs it"
#: C2PA 2.1, section 13.2: signature algorithms by elliptic curve.
_BY_CURVE = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Signer:
    """``chain``: certificates, leaf first, and ``key`` (PKCS #8), both PEM. ``algorithm`` in C2PA's words;
    ``subject``: whom the leaf is issued to (RFC 4514)."""

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str
    subject: str


def with_signer(settings: JobSettings) -> JobSettings:
    """``settings`` that name whom the certificate is issued to, after a signature for trial.

    Raises SpecError, field ``provenance...``: no signer where one is needed, or one that cannot sign.
    """
    how = settings.provenance
    missing = [name for name in ("certificate", "key") if getattr(how, name) is None]
    if how.c2pa != "off" and missing and (len(missing) == 1 or how.c2pa != "auto"):
        name = missing[0]
        raise _refused(
            name,
            f"is missing, so nothing can be signed; give the path of the signer's {_MEANT[name]}, there or "
            f"in REELWEAVE_C2PA_{name.upper()}, or set provenance.c2pa: off",
        )
    if not how.signs:
        return settings
    from pipeline.credentials import sign_for_trial

    signer = load_signer(how)
    sign_for_trial(signer)
    return dataclasses.replace(settings, provenance=dataclasses.replace(how, signer=signer.subject))


def load_signer(how: ProvenanceSettings) -> Signer:
    """Read and check the files of a job that signs. Raises SpecError with the code `SIGNER`."""
    try:
        import c2pa  # noqa: F401
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise _refused("c2pa", f"{error.name} is not installed here; {_INSTALL}, or set it to off") from None
    pem = _read("certificate", how.certificate)
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise _refused("certificate", f"{how.certificate}: holds no certificate in PEM") from None
    key = _private_key(_read("key", how.key), how.key)
    now = datetime.datetime.now(datetime.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise _refused(
            "certificate",
            f"{how.certificate}: is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}, and today is {now:%Y-%m-%d}; give a valid one",
        )
    if key.public_key() != leaf.public_key():
        raise _refused("key", f"{how.key}: is not the key of the first certificate in {how.certificate}")
    stored = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Signer(pem, stored, _algorithm(key, how.key), leaf.subject.rfc4514_string())


_MEANT = {"certificate": "certificate chain (PEM, leaf first)", "key": "private key (PEM)"}


def _read(name: str, path: str | None) -> bytes:
    try:
        with open(path or "", "rb") as file:
            return file.read()
    except OSError as error:
        why = f"{path}: cannot be read ({error.strerror}); give the {_MEANT[name]}, {_NODES}"
        raise _refused(name, why) from None


def _private_key(pem: bytes, path: str | None) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        why = f"{path}: is locked with a passphrase; give a file without, that only the job can read"
        raise _refused("key", why) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _refused("key", f"{path}: holds no private key in PEM") from None


def _algorithm(key: Any, path: str | None) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _BY_CURVE:
        return _BY_CURVE[key.curve.name]
    raise _refused(
        "key", f"{path}: C2PA signs with P-256, P-384, P-521, RSA and Ed25519 keys; give one of these"
    )


def _refused(name: str, why: str) -> SpecError:
    where = f"provenance.{name}"
    return SpecError(f"{where}: {why}", field=where, code=SIGNER)
