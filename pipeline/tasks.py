"""What runs inside Ray workers: one function or actor per step of `pipeline.graph`.

Every row carries ``status`` ("ok" or "failed") and ``failure`` (JSON); nothing here raises, because a raised
error would cost the neighbours of a bad row. Rows are: ``task`` (JSON of a UnitTask), arrays while they are
needed, and about a kilobyte of facts afterwards.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from pipeline.at_work import stamped
from pipeline.attempts import begin_attempt, end_attempt
from pipeline.auto_degradation import estimate_video
from pipeline.commit import ChunkStore, publish_video
from pipeline.disclosure import Sealed, label_tags, seal
from pipeline.disk_full import disk_is_full
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.errors import MemoryFullError, ReelweaveError, ResultLostError, SourceError, StoreError
from pipeline.failures import DISK_FULL, LOST, OTHER_CODE, STORE, failure_of
from pipeline.job_keys import estimate_key, index_key
from pipeline.keys import canonical_json, code_digest
from pipeline.lease import NO_LEASE, Fence
from pipeline.manifest import VideoRow
from pipeline.mask_clips import by_ordinal, decode_masks
from pipeline.metrics import measured
from pipeline.redact import redacted
from pipeline.settings import EncodeSettings, Limits, ProvenanceSettings, StorageSettings, VideoPolicy
from pipeline.slices import ThriftyEnhancer
from pipeline.source_cache import SourceCache, node_cache
from pipeline.store import Store
from pipeline.units import sliced_facts
from pipeline.video.assemble import assemble
from pipeline.video.copy_name import COPY
from pipeline.video.encode import encode_rgb_segment, encode_source_segment
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.integers import Hashes, Integers
from pipeline.video.nvenc import check_encoder
from pipeline.video.pass_through import verify_copy
from pipeline.video.published import verified_facts, verified_metrics
from pipeline.video.rgb import decode_rgb
from pipeline.video.treat import treated_frames
from pipeline.video.types import Assembly, Segment, VideoIndex
from pipeline.video.verify import verify_file
from pipeline.work import Failure, UnitTask, VideoRef, VideoTask

Row = dict[str, Any]

_CACHED_INDEXES = 8
#: Names of masks among what a decoded unit carries.
_MASK = "mask/"
_NO_FRAMES = np.zeros((0, 0, 0, 3), dtype=np.uint8)


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


def fail(row: Row, code: str, message: str, retry: bool, *, stage: str = "", attempts: int = 0) -> Row:
    """The row as a failure, without its arrays."""
    kept = {name: value for name, value in row.items() if not isinstance(value, (np.ndarray, bytes, list))}
    told = Failure(code, redacted(message), retry, stage, attempts, platform.node())
    failure = json.dumps(dataclasses.asdict(told))
    return {**kept, "status": "failed", "failure": failure}


@measured
def guarded(
    row: Row, context: TaskContext, step: str, work: Callable[[], Row], *, finishing: bool = False
) -> Row:
    """Run ``work`` once and turn whatever happens into a row.

    The attempt is counted before the work begins, outside this process (`pipeline.attempts`): a unit that
    kills its worker comes back here until ``max_attempts`` is reached, and then fails as ``crashed``. One
    that may take machines along is handed back as ``apart``, unless the row says that it is.
    ``finishing``: work that an interrupted run still does, since it saves what was done before.
    """
    if row["status"] != "ok":
        return row
    if context.code != code_digest():
        why = "worker and driver run different code; redeploy the cluster"
        return fail(row, OTHER_CODE, why, retry=False, stage=step)
    counted = f"{row['key']}/{step}"
    apart = bool(row.get("apart"))
    attempt = begin_attempt(context.ledger, counted, finishing=finishing, apart=apart)
    failed = functools.partial(fail, row, stage=step, attempts=attempt.number)
    if attempt.verdict == "crashed":
        return failed(
            "crashed",
            f"{step} did not survive {attempt.number} attempts (process killed or out of memory) and is not "
            "tried again; try smaller chunks or a larger machine, then run with --only quarantined",
            retry=False,
        )
    if attempt.verdict != "go":
        return failed(attempt.verdict, attempt.why, retry=attempt.verdict == STORE)
    begun = time.monotonic()
    try:
        out = {**row, **work()}
    except Exception as error:
        out = failed(*_reason(error, step))
    else:
        out["seconds"] = float(row.get("seconds", 0.0)) + time.monotonic() - begun
        out["attempts"] = max(int(row.get("attempts", 0)), attempt.number)
        out["node"] = platform.node()
    end_attempt(context.ledger, counted, well=out["status"] == "ok")
    return out


def _reason(error: Exception, step: str) -> tuple[str, str, bool]:
    """Code, message and whether another attempt may help."""
    told = f"{step}: {type(error).__name__}: {error}"
    if disk_is_full(error):
        where = f"free space in {tempfile.gettempdir()} of {platform.node()}, then run again to resume"
        return DISK_FULL, str(error) if isinstance(error, StoreError) else f"{told}; {where}", True
    if isinstance(error, SourceError):
        return error.code, str(error), False
    if isinstance(error, ResultLostError):
        return LOST, str(error), False
    if isinstance(error, StoreError):
        return STORE, str(error), True
    if isinstance(error, ReelweaveError):
        # Memory may be shared with others, who leave.
        passes = isinstance(error, MemoryFullError)
        return str(error.facts.get("code", "refused")), str(error), passes
    # Whatever else (a codec's mood): the neighbours must not suffer. A bug does not pass.
    bug = isinstance(error, (ImportError, AttributeError, NameError))
    return ("internal", told, False) if bug else ("failed", told, True)


def index_source(row: Row, context: TaskContext) -> Row:
    """Fetch, hash and index one source: adds ``source_digest``, ``source_version`` and ``index_key``."""

    def work() -> Row:
        version = context.sources.version(row["uri"])  # before it is read: a change meanwhile shows later
        path, source_digest = context.sources.local_path(row["uri"])
        key = index_key(source_digest, context.limits, context.video)
        if context.chunks.lookup(key) is None:
            index = build_index(path, row["uri"], context.limits, source_digest, context.video)
            context.chunks.commit_bytes(key, ".index", index_to_bytes(index), {"frames": index.frames})
        return {"source_digest": source_digest, "source_version": version, "index_key": key}

    return guarded(row, context, "index", work)


def estimate_source(row: Row, context: TaskContext) -> Row:
    """Estimate how an indexed source was degraded, once per index and code; adds nothing to the row."""

    def work() -> Row:
        key = estimate_key(row["index_key"])
        if context.chunks.lookup(key) is None:
            path = context.sources.open_verified(row["uri"], row["source_digest"])
            facts = estimate_video(path, _index(context, row["index_key"]))
            context.chunks.commit_bytes(key, ".estimate.json", canonical_json(facts), {})
        return {}

    return guarded(row, context, "estimate", work)


def decode_unit(row: Row, context: TaskContext) -> Row:
    """Decode a unit's frames and fetch its references: adds ``frames`` and ``references``."""
    task = UnitTask.from_json(row["task"])

    def work() -> Row:
        if task.untouched or _made_before(context, task):
            return {}
        index = _index(context, task.video.index_key)
        path = context.sources.open_verified(task.video.uri, task.video.source_digest)
        return {
            "frames": decode_rgb(path, index, task.decoded),
            "references": save({**_fetch_references(context, task), **_masks(context, task)}),
        }

    return guarded({**row, "frames": _NO_FRAMES, "references": b""}, context, "decode", work)


class EnhanceUnits:
    """The actor: one Enhancer for its whole life. Anchors and knots are committed here (they are small);
    a chunk's pictures go on to `encode_unit`."""

    def __init__(self, config: EnhancerConfig, style_keys: Mapping[int, str], context: TaskContext) -> None:
        from pipeline.enhancer import Enhancer, within_memory

        styles = {number: read_committed(context, key) for number, key in style_keys.items()}
        self._context = context
        self._enhancer = ThriftyEnhancer(Enhancer(config, styles), within_memory)

    def __call__(self, row: Row) -> Row:
        """Enhance one decoded unit."""

        def work() -> Row:
            if _made_before(self._context, UnitTask.from_json(row["task"])):
                return {"frames": _NO_FRAMES, "references": b""}
            return self._enhance(row)

        return stamped(lambda: guarded(row, self._context, "enhance", work))

    def _enhance(self, row: Row) -> Row:
        begun = time.monotonic()
        task = UnitTask.from_json(row["task"])
        if task.untouched:
            return {}
        enhancer = self._enhancer
        if task.enhance:
            origins, items = zip(*json.loads(task.enhance), strict=True)
            enhancer = enhancer.applying(items, origins)
        carried = load(row["references"])
        names = [name for name in carried if name.startswith(_MASK)]
        masks = {int(name.removeprefix(_MASK)): carried.pop(name) for name in names}
        if task.enhance:
            masks = {i: masks[at] for i, at in enumerate(origins) if at in masks}
        decoded, pictures_of = task.decoded, row["frames"]
        frames = FrameTask(
            task.video.source_digest,
            task.scene,
            task.ordinals,
            by_ordinal(masks, decoded),
            dict(zip(decoded, pictures_of, strict=True)) if task.halo else {},
            task.halo,
            task.scene_range,
        )
        before = decoded.index(task.ordinals[0])
        own = pictures_of[before : before + len(task.ordinals)]
        references = {name: blob.tobytes() for name, blob in carried.items()}
        anchors = references.pop("anchors", None)
        small = {name: value for name, value in row.items() if name not in ("frames", "references")}
        if task.level == "chunk":
            knots = {int(ordinal): blob for ordinal, blob in references.items()}
            pictures, slices = enhancer.chunk(frames, own, task.grid, anchors, knots)
            return {"frames": pictures, "references": b"", **slices}
        if task.level == "anchors":
            blobs, slices = {task.key: enhancer.anchors(frames, own)}, {}
        else:
            made, slices = enhancer.knots(frames, own, anchors)
            blobs = {key: made[knot] for knot, key in task.makes}
        for key, blob in blobs.items():
            facts = {"made": {**_making(row, begun, len(blobs)), **slices}}
            self._context.chunks.commit_bytes(key, ".safetensors", blob, facts)
        return {**small, "frames": _NO_FRAMES, "references": b"", **slices}


def encode_unit(row: Row, context: TaskContext) -> Row:
    """Encode a chunk's pictures as closed GOPs and commit the segment; drops the arrays."""
    task = UnitTask.from_json(row["task"])

    def work() -> Row:
        if _made_before(context, task):
            return {}
        begun = time.monotonic()
        check_encoder(context.encode.codec)
        if task.untouched:
            _transcode(task, context, row, begun)
            return {}
        index = _index(context, task.video.index_key)
        source = context.sources.open_verified(task.video.uri, task.video.source_digest)
        # Decoding once more is cheap beside the network, and lets rows travel without the source's planes.
        before = treated_frames(source, index, task.ordinals[0], task.ordinals[-1] + 1)
        with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
            path = os.path.join(folder, "segment.mkv")
            segment = encode_rgb_segment(path, row["frames"], task.gops, index, context.encode, before)
            context.chunks.commit(task.key, ".mkv", path, _facts(row, begun, segment))
        return {}

    return _small(guarded(row, context, "encode", work, finishing=True))


def transcode_unit(row: Row, context: TaskContext) -> Row:
    """Identity: decode and encode a chunk without touching its planes."""
    task = UnitTask.from_json(row["task"])

    def work() -> Row:
        if _made_before(context, task):
            return {}
        begun = time.monotonic()
        check_encoder(context.encode.codec)
        _transcode(task, context, row, begun)
        return {}

    return stamped(lambda: _small(guarded(row, context, "encode", work)))


def _transcode(task: UnitTask, context: TaskContext, row: Row, begun: float) -> None:
    index = _index(context, task.video.index_key)
    source = context.sources.open_verified(task.video.uri, task.video.source_digest)
    first, last = task.ordinals[0], task.ordinals[-1] + 1
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        path = os.path.join(folder, "segment.mkv")
        frames = treated_frames(source, index, first, last)
        segment = encode_source_segment(path, frames, task.gops, index, context.encode)
        context.chunks.commit(task.key, ".mkv", path, _facts(row, begun, segment))


def assemble_video(
    video: VideoTask, row: VideoRow, context: TaskContext, apart: bool = False
) -> VideoRow | Failure:
    """Join a video's segments with the source's other streams (or take the source as it is, for ``copy``),
    verify, publish, commit its row. ``apart``: nothing else is at work."""
    counted = guarded(
        {"status": "ok", "key": f"{video.video_key}@{video.video.uri}", "apart": apart},
        context,
        "assemble",
        lambda: {"row": _assemble(video, row, context)},
    )
    if counted["status"] == "ok":
        published: VideoRow = counted["row"]
        return published
    return failure_of(counted)


def _assemble(video: VideoTask, row: VideoRow, context: TaskContext) -> VideoRow:
    begun = time.monotonic()
    chunks = context.chunks
    index = _index(context, video.video.index_key)
    source = context.sources.open_verified(video.video.uri, video.video.source_digest)
    untouched, how = context.identity or video.untouched, context.provenance
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        if context.encode.codec == COPY:
            sealed = Sealed(source, None, {})
            assembly = Assembly(video.container, (), ())
            verified = verify_copy(source, index)
        else:
            finished = os.path.join(folder, f"video.{video.container}")
            paths, segments = _fetch_segments(video, chunks, folder)
            tags = label_tags(how, video.container, changed=not untouched)
            assembly = assemble(
                source, index, paths, segments, finished, video.container, context.encode, tags
            )
            sealed = seal(finished, source, video.output_rel, row, how, changed=not untouched)
            verified = verify_file(
                sealed.path, source, index, segments, assembly, context.encode, identity=untouched
            )
        if verified.problems:
            raise SourceError(
                f"{video.video.uri}: the finished file failed its verification and was not published: "
                + "; ".join(verified.problems),
                code="verification_failed",
                uri=video.video.uri,
            )
        row = dataclasses.replace(
            row,
            **verified_facts(verified),
            warnings=(
                *row.warnings,
                *index.warnings,
                *assembly.warnings,
                *sealed.warnings,
                *verified.warnings,
            ),
            dropped_streams=assembly.dropped_streams,
            versions={**row.versions, "ffmpeg": verified.object.ffmpeg},
            metrics={
                **row.metrics,
                **verified_metrics(verified),
                "provenance": sealed.record,
                "assemble_seconds": round(time.monotonic() - begun, 3),
            },
        )
        published = publish_video(
            chunks.store, sealed.path, video.output_rel, row, context.fence, sealed.sidecar
        )
    context.sources.evict(video.video.uri, video.video.source_digest)
    return published


def _fetch_segments(video: VideoTask, chunks: ChunkStore, folder: str) -> tuple[list[str], list[Segment]]:
    paths, segments = [], []
    for number, key in enumerate(video.chunk_keys):
        receipt = chunks.lookup(key)
        if receipt is None:
            raise ResultLostError(f"{video.video.uri}: segment {number} is gone; run the job again", uri=key)
        paths.append(os.path.join(folder, f"{number:08d}.mkv"))
        chunks.fetch(receipt, paths[-1])
        segments.append(_segment(receipt.facts["segment"]))
    return paths, segments


def read_committed(context: TaskContext, key: str) -> bytes:
    """A committed object's bytes; ResultLostError when it is gone."""
    chunks = context.chunks
    receipt = chunks.lookup(key)
    if receipt is None:
        raise ResultLostError(f"{key}: gone from the chunk store; the next run recomputes it", key=key)
    return chunks.read(receipt)


def _fetch_references(context: TaskContext, task: UnitTask) -> dict[str, np.ndarray[Any, Any]]:
    keys = {str(ordinal): key for ordinal, key in task.knot_keys}
    if task.anchors_key:
        keys["anchors"] = task.anchors_key
    return {name: np.frombuffer(read_committed(context, key), dtype=np.uint8) for name, key in keys.items()}


def _masks(context: TaskContext, task: UnitTask) -> dict[str, np.ndarray[Any, Any]]:
    """Masks of the unit's frames out of mask videos."""
    found = {}
    for number, clip in context.mask_clips:
        path = context.sources.open_verified(clip.uri, clip.source_digest)
        masks = decode_masks(path, _index(context, clip.index_key), task.decoded)
        found[f"{_MASK}{number}"] = masks
    return found


_INDEXES: OrderedDict[tuple[str, str], VideoIndex] = OrderedDict()


def _index(context: TaskContext, key: str) -> VideoIndex:
    """The index of a video; the last few stay in this process, since neighbouring chunks share one."""
    place = (context.output, key)
    if place not in _INDEXES:
        _INDEXES[place] = index_from_bytes(read_committed(context, key))
        while len(_INDEXES) > _CACHED_INDEXES:
            _INDEXES.popitem(last=False)
    return _INDEXES[place]


def _made_before(context: TaskContext, task: UnitTask) -> bool:
    """Whether all that a unit makes is committed: by an attempt whose end nobody heard of (its node was lost
    with its row), or by a run that was given up for dead."""
    keys = [key for _, key in task.makes] or [task.key]
    return all(context.chunks.lookup(key) is not None for key in keys)


def _making(row: Row, begun: float, results: int = 1) -> Row:
    """How a result was made, for its receipt: a driver that dies before it lists the result takes the row
    with it. Seconds are one result's share."""
    seconds = float(row["seconds"]) + time.monotonic() - begun
    return {
        "seconds": round(seconds / results, 3),
        "attempts": max(1, int(row["attempts"])),
        "node": platform.node(),
    }


def _facts(row: Row, begun: float, segment: Segment) -> dict[str, Any]:
    return {"segment": _segment_facts(segment), "made": {**_making(row, begun), **sliced_facts(row)}}


def _segment_facts(segment: Segment) -> dict[str, Any]:
    integers = {"frame_hashes": segment.frame_hashes.to_text(), "ranks": segment.ranks.to_text()}
    return {**dataclasses.asdict(segment), **integers}


def _segment(facts: dict[str, Any]) -> Segment:
    return Segment(
        **{
            **facts,
            "frame_hashes": Hashes.from_text(facts["frame_hashes"]),
            "ranks": Integers.from_text(facts["ranks"]),
        }
    )


def _small(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("frames", "references")}
