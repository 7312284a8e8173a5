"""Before work: can the job's `encode` section be carried out at all, here?"""

from __future__ import annotations

import os

from pipeline.errors import SpecError
from pipeline.settings import ClusterSettings, JobSettings
from pipeline.video.copy_name import COPY
from pipeline.video.nvenc import check_encoder


def is_local(settings: ClusterSettings) -> bool:
    """Whether work runs on this machine: "local", or "auto" outside a cluster."""
    return settings.address == "local" or (settings.address == "auto" and "RAY_ADDRESS" not in os.environ)


def check_encode(settings: JobSettings) -> None:
    """Refuse what no video of the job could get past.

    A hardware encoder is opened here only when this machine does the work; on a cluster the workers open it
    before they encode, and the first that cannot stops the job.

    Raises:
        SpecError: field ``enhance``, ``encode.container`` or ``encode.codec``.
    """
    encode = settings.encode
    if encode.codec == COPY and settings.enhance:
        raise SpecError(
            "enhance: encode.codec copy publishes the sources' own bytes, so nothing can be enhanced; "
            "set enhance: [] or choose a codec such as libx264.",
            field="enhance",
        )
    if encode.codec == COPY and encode.container != "auto":
        raise SpecError(
            f"encode.container: encode.codec copy keeps every source's container, found {encode.container}; "
            "set it to auto, or choose a codec such as libx264.",
            field="encode.container",
        )
    if is_local(settings.cluster):
        check_encoder(encode.codec)
