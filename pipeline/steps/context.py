"""What every step of a run needs, and what it reads back of the committed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from pipeline.commit import ChunkStore
from pipeline.errors import ResultLostError
from pipeline.lease import NO_LEASE, Fence
from pipeline.settings import EncodeSettings, Limits, ProvenanceSettings, StorageSettings, VideoPolicy
from pipeline.source_cache import SourceCache, node_cache
from pipeline.store import Store
from pipeline.video.index_io import index_from_bytes
from pipeline.video.types import VideoIndex
from pipeline.work import VideoRef

_CACHED_INDEXES = 8


@dataclass(frozen=True)
class TaskContext:
    """What every task of a run needs; a few hundred bytes. ``identity``: nothing is enhanced; ``fence``
    is the token of the run's lease; ``mask_clips`` are mask videos by index in ``enhance``; ``provenance``
    holds paths of the signer's files, not what is in them."""

    output: str
    storage: StorageSettings
    limits: Limits
    video: VideoPolicy
    encode: EncodeSettings
    ledger: str
    code: str
    identity: bool = False
    fence: Fence = NO_LEASE
    mask_clips: tuple[tuple[int, VideoRef], ...] = ()
    provenance: ProvenanceSettings = field(default_factory=ProvenanceSettings)

    @property
    def chunks(self) -> ChunkStore:
        """The chunk store below the output root."""
        return ChunkStore(Store(self.output, self.storage))

    @property
    def sources(self) -> SourceCache:
        """Node-local copies of remote sources."""
        return node_cache(self.storage)


def read_committed(context: TaskContext, key: str) -> bytes:
    """A committed object's bytes; ResultLostError when it is gone."""
    chunks = context.chunks
    receipt = chunks.lookup(key)
    if receipt is None:
        raise ResultLostError(f"{key}: gone from the chunk store; the next run recomputes it", key=key)
    return chunks.read(receipt)


_INDEXES: OrderedDict[tuple[str, str], VideoIndex] = OrderedDict()


def committed_index(context: TaskContext, key: str) -> VideoIndex:
    """The index of a video; the last few stay in this process, since neighbouring chunks share one."""
    place = (context.output, key)
    if place not in _INDEXES:
        _INDEXES[place] = index_from_bytes(read_committed(context, key))
        while len(_INDEXES) > _CACHED_INDEXES:
            _INDEXES.popitem(last=False)
    return _INDEXES[place]
