"""Fields: finding interlacing that no flag tells of, and making whole pictures of woven ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from av.filter import Graph
from av.video.frame import VideoFrame

from pipeline.video.types import Deinterlace

#: Looked at are the first frames of every stretch: fields come in neighbours, and all of them cost time.
STRETCH, LOOKED_AT = 120, 16
#: bwdif reads one frame before and one after; one more is decoded so that its own edges lie outside.
HALO = 2
_TELECINE_SHARE = 0.1


class FieldDetective:
    """Feed every frame once, in order: idet (FFmpeg) judges those that no flag marks as interlaced."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._picture: tuple[int, int, str] | None = None
        self._waiting = False
        self._counts: Counter[str] = Counter()

    def feed(self, ordinal: int, frame: VideoFrame) -> None:
        """Look at frame ``ordinal`` (0, 1, 2, ...)."""
        picture = (frame.width, frame.height, frame.format.name)
        if ordinal % STRETCH >= LOOKED_AT or frame.interlaced_frame or frame.height < 16:
            self._graph = None
            return
        if self._graph is None or picture != self._picture:
            self._picture, self._graph, self._waiting = picture, _graph(frame, ("idet", "")), False
        self._graph.push(frame)
        if self._waiting:
            # idet stamps its verdict on a frame when it has seen the next one.
            seen: Any = self._graph.pull()
            for what in ("multiple", "repeated"):
                self._counts[f"{what}.{seen.metadata[f'lavfi.idet.{what}.current_frame']}"] += 1
        self._waiting = True

    def order(self) -> Deinterlace:
        """``tff`` or ``bff`` when most unflagged frames look interlaced that way, else ``""``."""
        top, bottom, whole = (self._count("multiple", kind) for kind in ("tff", "bff", "progressive"))
        if top + bottom <= whole:
            return ""
        return "tff" if top >= bottom else "bff"

    def warnings(self) -> Iterator[str]:
        """What looks interlaced or telecined though no flag says so."""
        if self.order():
            combed = self._count("multiple", "tff") + self._count("multiple", "bff")
            yield f"combing_unflagged: {combed} frames look interlaced ({self.order()}) though none is marked"
        repeated = self._count("repeated", "top") + self._count("repeated", "bottom")
        if repeated > _TELECINE_SHARE * (repeated + self._count("repeated", "neither")):
            yield f"telecine_suspected: {repeated} frames repeat a field of a neighbour; nothing is undone"

    def _count(self, what: str, kind: str) -> int:
        return self._counts[f"{what}.{kind}"]


def deinterlaced(frames: Iterable[VideoFrame], how: Deinterlace) -> Iterator[VideoFrame]:
    """One whole picture per frame (bwdif; Bob Weaver deinterlacer of FFmpeg).

    ``how``: ``flagged`` changes only frames that are marked as interlaced; ``tff`` and ``bff`` take every
    frame for interlaced with that field first. A picture depends on its two neighbours and nothing else.
    """
    which = "auto:deint=interlaced" if how == "flagged" else f"{how}:deint=all"
    graph: Graph | None = None
    waiting = 0
    for frame in frames:
        graph = graph or _graph(frame, ("bwdif", f"mode=send_frame:parity={which}"))
        graph.push(frame)
        waiting += 1
        if waiting > 1:
            yield _pulled(graph)
            waiting -= 1
    if graph is not None and waiting:
        graph.push(None)
        yield _pulled(graph)


def _graph(frame: VideoFrame, node: tuple[str, str]) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add(*node), graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Graph) -> VideoFrame:
    picture: Any = graph.pull()
    return picture
