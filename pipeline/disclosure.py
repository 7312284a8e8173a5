"""What an output says of itself: that a trained model changed its pictures, and signed, by whom.

Two things, told apart by who vouches for them:

    label         IPTC digital source type: XMP in MP4 (a `uuid` box) and MOV, a tag in Matroska and WebM.
                  Needs nobody; in every output whose frames a model changed
    credentials   C2PA, signed by the user's signer, with the source as ingredient: in MP4 and MOV, beside
                  the others as ``<name>.c2pa``

Both are made when a video is put together, after the last mux and before its verification, so that what is
verified and hashed is what is published. Segments know nothing of them. A source that is published as it is
(codec copy) keeps its own.
"""

from __future__ import annotations

import os
import posixpath
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.credentials import EMBEDDING, Claim, Signed, has_credentials, sign_file
from pipeline.settings import JobSettings, ProvenanceSettings
from pipeline.signer import load_signer

if TYPE_CHECKING:
    from pipeline.manifest_schema import VideoRow

#: IPTC NewsCodes: real footage, edited with generative AI.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
#: XMP specification, part 3, 1.1.4: the `uuid` box of ISO base media files.
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
_DROPPED = (
    "credentials_dropped: the source's content credentials speak of other pictures; only a signer can keep "
    "them as an ingredient"
)
#: Name of the tag in Matroska and WebM.
TAG = "DIGITAL_SOURCE_TYPE"


@dataclass(frozen=True)
class Sealed:
    """A finished file. ``sidecar``: a local file with its credentials, where they are not in it; ``record``:
    for the row's metrics."""

    path: str
    sidecar: str | None
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()


def disclosure_note(settings: JobSettings) -> str:
    """A sentence on what outputs will say; empty where nothing is changed and nothing signed."""
    how = settings.provenance
    if not settings.enhance and not how.signs:
        return ""
    label = "outputs name the IPTC source type" if how.label else "outputs carry no IPTC source type"
    if how.signs:
        return f"{label}, and are signed (C2PA)" + (f" by {how.signer}" if how.signer else "")
    if how.c2pa == "off":
        return f"{label}; signing (C2PA) is off"
    return (
        f"{label}, unsigned: no signer was given; name provenance.certificate and provenance.key to sign "
        "them (C2PA), or set provenance.c2pa: off"
    )


def label_tags(how: ProvenanceSettings, container: str, *, changed: bool) -> dict[str, str]:
    """Tags with which the muxer writes the label. ``changed``: a model worked on the pictures."""
    if not (how.label and changed) or container == "mp4":
        return {}
    return {"xmp": _XMP} if container == "mov" else {TAG: SOURCE_TYPE}


def seal(
    path: str, source_path: str, output_rel: str, row: VideoRow, how: ProvenanceSettings, *, changed: bool
) -> Sealed:
    """Label and sign a finished file that will be ``output_rel``, as far as the muxer has not done so.

    Raises SpecError (the signer cannot sign any more), SourceError ``credentials_failed``.
    """
    container = output_rel.rpartition(".")[2]
    record: dict[str, Any] = {"source_type": SOURCE_TYPE if how.label and changed else ""}
    if record["source_type"] and container == "mp4":
        _append_xmp(path)
    if not how.signs:
        return Sealed(path, None, record, (_DROPPED,) if has_credentials(source_path) else ())
    claim = Claim(
        title=_name_of(output_rel),
        source_title=_name_of(row.video_uri),
        source_type=SOURCE_TYPE if changed else "",
        version=row.versions.get("reelweave", "unknown"),
        parameters={
            "source_sha256": row.source_digest,
            "spec_digest": row.spec_digest,
            "model_digest": row.model_digest,
            "style_digest": row.style_digest,
            "seed": str(row.seed),
        },
    )
    embedded = how.c2pa != "sidecar" and container in EMBEDDING
    signed_path = f"{path}.signed"
    found = sign_file(path, signed_path, container if embedded else "", source_path, claim, load_signer(how))
    os.replace(signed_path, path)
    return Sealed(path, None if embedded else _written(found, path), record | _told(found, embedded, how))


def sidecar_relative(output_rel: str) -> str:
    """Where the credentials of a published video lie that does not hold them.

    >>> sidecar_relative("videos/a/b.mkv")
    'videos/a/b.c2pa'
    """
    return f"{posixpath.splitext(output_rel)[0]}.c2pa"


def sidecar_of(row: VideoRow) -> str | None:
    """The sidecar of a published video, relative to the output root; None without one."""
    told = row.metrics.get("provenance", {}).get("credentials")
    return sidecar_relative(row.output_rel) if told == "sidecar" else None


def _told(found: Signed, embedded: bool, how: ProvenanceSettings) -> dict[str, Any]:
    return {
        "credentials": "embedded" if embedded else "sidecar",
        "manifest": found.label,
        "signer": how.signer,
        "source_had_credentials": found.had_credentials,
    }


def _written(found: Signed, path: str) -> str:
    sidecar = f"{path}.c2pa"
    with open(sidecar, "wb") as file:
        file.write(found.manifest)
    return sidecar


def _name_of(place: str) -> str:
    # File names need not be text.
    return posixpath.basename(place).encode("utf-8", "replace").decode()


def _append_xmp(path: str) -> None:
    """A box after the last one moves no sample, so no table of offsets changes."""
    content = XMP_UUID + _XMP.encode()
    with open(path, "ab") as file:
        file.write(struct.pack(">I4s", 8 + len(content), b"uuid") + content)
