"""Content credentials (C2PA 2): signing a finished file, and reading back what was signed.

Signatures carry random identifiers, so signing twice gives two files; what decodes from them is the same. No
time stamp authority is asked: once a certificate has run out, nobody can tell that it was valid before.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SourceError, SpecError
from pipeline.signer import SIGNER, Signer

#: Containers that hold credentials themselves, and their names in C2PA.
EMBEDDING = {"mp4": "video/mp4", "mov": "video/quicktime"}
_ANY = "application/octet-stream"
#: C2PA 2.1, A.5: the box of ISO base media files that holds them.
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_AGENT = "reelweave"
#: Which authorities are trusted is up to whoever looks; signatures outlive certificates.
_TOLERATED = frozenset({"signingCredential.untrusted", "signingCredential.expired"})


@dataclass(frozen=True)
class Claim:
    """What a signature says. ``source_type``: IPTC's address of the digital source type; "" where no
    picture was changed. ``parameters`` name the job: finite JSON."""

    title: str
    source_title: str
    source_type: str
    version: str
    parameters: Mapping[str, Any]

    def definition(self, media_type: str) -> dict[str, Any]:
        """The manifest as `c2pa` takes it: opened, edited (if it was), transcoded."""
        agent = {"name": _AGENT, "version": self.version}
        edited = {
            "action": "c2pa.edited",
            "digitalSourceType": self.source_type,
            "softwareAgent": agent,
            "description": "Frames were restored or restyled by a latent diffusion model.",
            "parameters": {f"{_AGENT}.{name}": value for name, value in self.parameters.items()},
        }
        return {
            "claim_generator_info": [agent],
            "title": self.title,
            "format": media_type,
            "assertions": [
                {
                    "label": "c2pa.actions",
                    "data": {
                        "actions": [
                            {"action": "c2pa.opened", "parameters": {"ingredientIds": [_AGENT]}},
                            *([edited] if self.source_type else []),
                            {"action": "c2pa.transcoded", "softwareAgent": agent},
                        ]
                    },
                }
            ],
        }


@dataclass(frozen=True)
class Signed:
    """``manifest``: the credentials themselves; ``label`` their name; ``had_credentials``: so did the source,
    which are kept in them as an ingredient."""

    manifest: bytes
    label: str
    had_credentials: bool


def sign_file(
    path: str, signed_path: str, container: str, source_path: str, claim: Claim, signer: Signer
) -> Signed:
    """Sign ``path`` into ``signed_path``: with embedded credentials where the container takes them, else a
    copy of equal bytes for which `Signed.manifest` stands alone.

    Raises SourceError ``credentials_failed``.
    """
    from c2pa import Builder, C2paError

    media_type = EMBEDDING.get(container, _ANY)
    try:
        with (
            Builder(claim.definition(media_type)) as builder,
            open(path, "rb") as unsigned,
            open(signed_path, "w+b") as target,
        ):
            if container not in EMBEDDING:
                builder.set_no_embed()
            _add_source(builder, source_path, claim.source_title)
            manifest = _signed(builder, signer, media_type, unsigned, target)
    except C2paError as error:
        raise SourceError(
            f"{claim.source_title}: its output could not be signed ({error}); set provenance.c2pa: "
            "sidecar, or off",
            code="credentials_failed",
        ) from error
    store = _read(signed_path, container, None if container in EMBEDDING else manifest)
    label = store["active_manifest"]
    sources = store["manifests"][label].get("ingredients", [])
    return Signed(manifest, label, any("active_manifest" in source for source in sources))


def has_credentials(path: str) -> bool:
    """Whether an MP4 or MOV holds credentials; no other file is looked into. Raises OSError."""
    with open(path, "rb") as file:
        end = os.path.getsize(path)
        head = file.read(32)
        if head[4:8] != b"ftyp":
            return False
        at = 0
        while len(head) >= 8:
            size, kind = struct.unpack(">I4s", head[:8])
            if kind == b"uuid" and head[8:24] == _C2PA_UUID:
                return True
            if size == 1 and len(head) >= 16:
                size = struct.unpack(">Q", head[8:16])[0]
            if size < 8 or at + size >= end:  # the last box, or none
                return False
            at += size
            file.seek(at)
            head = file.read(32)
    return False


def sign_for_trial(signer: Signer) -> None:
    """Sign a few bytes. Raises SpecError: the certificate is not one that C2PA takes."""
    from c2pa import Builder, C2paError

    claim = Claim("trial", "trial", "", "0", {})
    try:
        with Builder(claim.definition(_ANY)) as builder:
            builder.set_no_embed()
            builder.add_ingredient(_PARENT | {"title": "trial"}, _ANY, io.BytesIO(b"trial"))
            _signed(builder, signer, _ANY, io.BytesIO(b"trial"), io.BytesIO())
    except C2paError as error:
        raise SpecError(
            f"provenance.certificate: C2PA cannot sign with it ({error}); the first certificate must not be "
            "a CA's, must allow digitalSignature and an extended use such as emailProtection, and those of "
            "the authorities above it must follow it in the file",
            field="provenance.certificate",
            code=SIGNER,
        ) from error


def credentials_problem(path: str, container: str, sidecar: bytes | None) -> str | None:
    """What is wrong with the credentials of a file, or None. ``sidecar``: where they are not in the file."""
    from c2pa import C2paError

    try:
        results = _read(path, container, sidecar).get("validation_results", {}).get("activeManifest", {})
    except C2paError as error:
        return f"its content credentials cannot be read ({error})"
    codes = sorted({failure["code"] for failure in results.get("failure", [])} - _TOLERATED)
    return f"its content credentials do not hold: {', '.join(codes)}" if codes else None


_PARENT = {"relationship": "parentOf", "instance_id": _AGENT}


def _add_source(builder: Any, path: str, title: str) -> None:
    """The source as the parent, with its credentials if it has any."""
    from c2pa import C2paError

    parent = {**_PARENT, "title": title}
    with open(path, "rb") as file:
        try:
            builder.add_ingredient(parent, _media_type(file.read(12)), file)
        except C2paError:  # a file that C2PA cannot parse has no credentials to keep
            file.seek(0)
            builder.add_ingredient(parent, _ANY, file)


def _media_type(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    return "video/x-msvideo" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else _ANY


def _signed(builder: Any, signer: Signer, media_type: str, source: Any, target: Any) -> bytes:
    from c2pa import C2paSignerInfo
    from c2pa import Signer as Signing

    info = C2paSignerInfo(
        alg=signer.algorithm.encode(), sign_cert=signer.chain, private_key=signer.key, ta_url=None
    )
    with Signing.from_info(info) as signing:
        manifest: bytes = builder.sign(signing, media_type, source, target)
    return manifest


def _read(path: str, container: str, sidecar: bytes | None) -> dict[str, Any]:
    from c2pa import Reader

    media_type = EMBEDDING.get(container, _ANY) if sidecar is None else _ANY
    with open(path, "rb") as file, Reader(media_type, file, sidecar) as reader:
        store: dict[str, Any] = json.loads(reader.json())
    return store
