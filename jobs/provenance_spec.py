"""What outputs say of themselves: the ``provenance`` part of a job file."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator

from jobs.places import absolute
from jobs.spec_base import Section, problem
from pipeline.settings import Credentials, ProvenanceSettings

#: Where the signer's files are looked for when the job file does not name them.
ENVIRONMENT = {"certificate": "REELWEAVE_C2PA_CERTIFICATE", "key": "REELWEAVE_C2PA_KEY"}


def _local(path: str) -> str:
    if "-----BEGIN" in path:
        raise problem("expected the path of a file, found what belongs into one; no job file holds keys")
    if "://" in path:
        raise problem("expected a file on every node that publishes, found a URL; mount it there")
    return absolute(path)


LocalFile = Annotated[str, AfterValidator(_local)]


class ProvenanceSpec(Section):
    """What outputs say of themselves. ``label`` writes the IPTC digital source type into outputs that a model
    changed. ``c2pa`` signs content credentials: ``auto`` where a signer is given, ``embed`` (beside Matroska
    and WebM, which cannot hold them) and ``sidecar`` always, ``off`` never. The signer is a ``certificate``
    chain and its private ``key``: PEM files on every node, also named by REELWEAVE_C2PA_CERTIFICATE and
    REELWEAVE_C2PA_KEY."""

    label: bool = ProvenanceSettings.label
    c2pa: Credentials = ProvenanceSettings.c2pa
    certificate: LocalFile | None = None
    key: LocalFile | None = None

    def to_settings(self, *, copied: bool) -> ProvenanceSettings:
        """With files of the environment where the job names none. ``copied``: outputs are the sources' own
        bytes, which nobody signs anew."""
        return ProvenanceSettings(
            label=self.label,
            c2pa="off" if copied else self.c2pa,
            certificate=self.certificate or _of_environment("certificate"),
            key=self.key or _of_environment("key"),
        )


def _of_environment(name: str) -> str | None:
    path = os.environ.get(ENVIRONMENT[name])
    return os.path.abspath(path) if path else None
