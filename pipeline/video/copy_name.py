"""What a copied file is called: its container's ending, from what is in it."""

from __future__ import annotations

import os

from pipeline.video.types import VideoIndex

#: The ``encode.codec`` of jobs that publish their sources' own bytes.
COPY = "copy"

# Demuxer -> endings that its files go by, the usual one first.
_ENDINGS = {
    "mov": ("mp4", "mov", "m4v", "3gp", "3g2", "mj2", "qt"),
    "matroska": ("mkv", "webm", "mk3d"),
    "avi": ("avi", "divx"),
    "mpegts": ("ts", "m2ts", "mts", "m2t", "trp"),
    "mpeg": ("mpg", "mpeg", "vob", "m2p", "mod"),
    "flv": ("flv", "f4v"),
    "live_flv": ("flv",),
    "asf": ("wmv", "asf"),
    "ogg": ("ogv", "ogg", "ogm"),
    "mxf": ("mxf",),
    "nut": ("nut",),
    "gif": ("gif",),
    "ivf": ("ivf",),
    "rm": ("rm", "rmvb"),
    "dv": ("dv", "dif"),
    "yuv4mpegpipe": ("y4m",),
    "gxf": ("gxf",),
    "wtv": ("wtv",),
    "swf": ("swf",),
    "apng": ("apng", "png"),
}
_UNKNOWN = "video"
_WEBM_CODECS = ("vp8", "vp9", "av1", "opus", "vorbis", "webvtt")

#: Every ending that a copied output may get.
COPY_EXTENSIONS = tuple(sorted({ending for endings in _ENDINGS.values() for ending in endings} | {_UNKNOWN}))


def copy_extension(uri: str, index: VideoIndex) -> str:
    """The ending of a copied file, from what is in it: the source's own if it fits, else the usual one.

    A Matroska file is called ``webm`` only when all its codecs are WebM's, and always when, besides, its
    own name says nothing of Matroska.
    """
    family = index.container.split(",")[0]
    endings = _ENDINGS.get(family, (_UNKNOWN,))
    own = os.path.splitext(uri)[1].lstrip(".").lower()
    if family == "matroska":
        webm = all(s.codec in _WEBM_CODECS for s in index.streams)
        if not webm:
            return own if own in ("mkv", "mk3d") else "mkv"
        return own if own in endings else "webm"
    return own if own in endings else endings[0]
