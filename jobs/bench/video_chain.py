"""A whole video through the pipeline's stages without a model, one chunk in memory at a time, as in a job."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ChunkError
from pipeline.plan import ChunkPlan, plan_video
from pipeline.settings import ConsistencySettings, EncodeSettings, Limits
from pipeline.video.assemble import assemble
from pipeline.video.container import choose_container
from pipeline.video.decode import decode_frames
from pipeline.video.encode import encode_rgb_segment, encode_source_segment
from pipeline.video.index import build_index
from pipeline.video.rgb import decode_rgb
from pipeline.video.types import Assembly, Segment, VideoIndex
from pipeline.video.verify import verify_output


def identity_job(path: str, folder: Path, settings: EncodeSettings, *, through_rgb: bool = False) -> str:
    """Index, decode, encode, assemble and verify a clip; returns the file.

    Decoded planes go to the encoder as they are, or by way of RGB arrays like pictures that a model made.

    Raises:
        SourceError: the pipeline refuses the clip. ChunkError: the output is not what it was meant to be.
    """
    index = build_index(path, path, Limits(), "")
    segments: list[Segment] = []
    paths: list[str] = []
    work = _through_rgb if through_rgb else _as_decoded
    for n, chunk in enumerate(plan_video(index, ConsistencySettings(), 1).chunks):
        paths.append(str(folder / f"chain-{n}.mkv"))
        segments.append(work(path, paths[-1], chunk, index, settings))
    container = choose_container(index, settings)
    out = str(folder / f"chain.{container}")
    assembly = assemble(path, index, paths, segments, out, container, settings)
    check(out, path, index, segments, assembly)
    return out


def _as_decoded(
    path: str, segment: str, chunk: ChunkPlan, index: VideoIndex, settings: EncodeSettings
) -> Segment:
    frames = decode_frames(path, index, chunk.first, chunk.last)
    return encode_source_segment(segment, frames, chunk.gops, index, settings)


def _through_rgb(
    path: str, segment: str, chunk: ChunkPlan, index: VideoIndex, settings: EncodeSettings
) -> Segment:
    rgb = decode_rgb(path, index, range(chunk.first, chunk.last))
    return encode_rgb_segment(segment, rgb, chunk.gops, index, settings)


def check(out: str, source: str, index: VideoIndex, segments: list[Segment], assembly: Assembly) -> None:
    """Raises ChunkError: the speed of output that is wrong would mean nothing."""
    problems = verify_output(out, source, index, segments, assembly)[1]
    if problems:
        raise ChunkError(f"{source}: {problems[0]}.", code="segment_mismatch")
