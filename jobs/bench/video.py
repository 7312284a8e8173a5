"""`bench video`: what the faithful round trip costs against plain PyAV, and what it loses.

Four measurements: speed of every stage against a plain loop of the same libav work, colour errors against
PyAV's default conversion, quality at the borders of segments, and peak memory against length.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.bench.clips import clips_below
from jobs.bench.result import BenchResult
from jobs.console import say
from jobs.demo.demo import TRUTH
from pipeline.errors import SourceError, SpecError
from pipeline.settings import EncodeSettings, Limits

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from pipeline.video.types import VideoIndex

Row = dict[str, Any]

#: Speed holds all decoded frames of a clip in memory.
MAX_FRAMES, MAX_HELD_BYTES = 600, 700 * 2**20
#: With fewer frames it is the opening of files that is timed: rows, but no targets.
TARGET_FRAMES = 60
BORDER_GOP, BORDER_FRAMES, BORDER_PIXELS = 16, 96, 640 * 360


@dataclass(frozen=True)
class _Scale:
    """How much is done. ``size`` and ``border_size``: width, height and frames of the clips made."""

    size: tuple[int, int, int]
    border_size: tuple[int, int, int]
    repeats: int
    preset: str
    colour_frames: int


_FULL = _Scale((1280, 720, 144), (320, 180, BORDER_FRAMES), 3, "medium", 4)
_QUICK = _Scale((640, 360, 64), (160, 96, 48), 3, "veryfast", 1)


@dataclass(frozen=True)
class _Clip:
    """A clip that the pipeline takes."""

    path: str
    index: VideoIndex

    @property
    def name(self) -> str:
        """What rows call it."""
        return Path(self.path).stem

    def frames(self, count: int) -> list[VideoFrame]:
        """Up to ``count`` decoded frames."""
        from pipeline.video.decode import decode_frames

        return list(decode_frames(self.path, self.index, 0, min(count, self.index.frames)))


def run(quick: bool, pictures: Path | None = None) -> BenchResult:
    """The clips below ``pictures``, or without it the bundled clip and one of 1280x720 made on the spot;
    ``quick`` makes that smaller and takes a faster preset."""
    from jobs.bench.video_borders import border_rows
    from jobs.bench.video_clips import Moving, write_moving
    from jobs.bench.video_colour import colour_rows, colour_targets
    from jobs.bench.video_memory import memory_rows, memory_targets
    from jobs.bench.video_speed import speed_targets

    scale = _QUICK if quick else _FULL
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        if pictures is None:
            made = write_moving(Path(folder, "generated.mp4"), Moving(*scale.size))
            small = write_moving(Path(folder, "generated_small.mp4"), Moving(*scale.border_size))
            bundled = _opened(str(TRUTH))
            clips, bordered = [bundled, _opened(made)], [bundled, _opened(small)]
        else:
            clips = _usable(pictures)
            bordered = [clip for clip in clips if _is_small(clip.index)]
        listed = tuple(_listed(clip) for clip in clips)
        speed = _speed(clips, scale)
        borders = tuple(
            row
            for clip in bordered
            for row in border_rows(
                clip.name, clip.frames(BORDER_FRAMES), clip.index, BORDER_GOP, scale.preset
            )
        )
        colour, default_colour = colour_rows(_colour_pictures(clips, scale.colour_frames))
    memory = memory_rows()
    long_enough = {row["clip"] for row in listed if row["frames"] >= TARGET_FRAMES}
    timed = tuple(row for row in speed if row["clip"] in long_enough)
    return BenchResult(
        "video",
        speed,
        (*speed_targets(timed), *colour_targets(colour), *memory_targets(memory)),
        {
            "clips": listed,
            "colour": colour,
            "colour by PyAV's default": default_colour,
            **({f"borders every {BORDER_GOP} frames": borders} if borders else {}),
            "memory": memory,
        },
    )


def _speed(clips: list[_Clip], scale: _Scale) -> tuple[Row, ...]:
    from jobs.bench.video_speed import speed_rows

    settings = EncodeSettings(preset=scale.preset)
    return tuple(row for clip in clips for row in speed_rows(clip.path, settings, scale.repeats))


def _listed(clip: _Clip) -> Row:
    index = clip.index
    size = f"{index.geometry.width}x{index.geometry.height}"
    return {"clip": clip.name, "size": size, "format": index.pix_fmt, "codec": index.codec,
            "frames": index.frames}  # fmt: skip


def _opened(path: str) -> _Clip:
    from pipeline.video.index import build_index

    return _Clip(path, build_index(path, path, Limits(), ""))


def _usable(folder: Path) -> list[_Clip]:
    """Clips that are neither refused by the pipeline nor too large to hold. Raises SpecError for none."""
    clips = []
    for path in clips_below(folder):
        try:
            clip = _opened(str(path))
        except SourceError as error:
            say(f"{path.name} is left out: {error}")
            continue
        shape = clip.index.geometry
        held = 3 * shape.width * shape.height * (2 if clip.index.bit_depth > 8 else 1) * clip.index.frames
        if clip.index.frames > MAX_FRAMES or held > MAX_HELD_BYTES:
            say(f"{path.name} is left out: its {clip.index.frames} frames are more than this holds in memory")
            continue
        clips.append(clip)
    if not clips:
        raise SpecError(f"--pictures: no clip below {folder} that can be measured", field="--pictures")
    return clips


def _is_small(index: VideoIndex) -> bool:
    """Borders are measured with three encoders, on clips that have one."""
    even = index.geometry.width % 2 == index.geometry.height % 2 == 0
    small = index.geometry.width * index.geometry.height <= BORDER_PIXELS
    return even and small and index.pix_fmt in ("yuv420p", "yuv420p10le") and index.frames > BORDER_GOP


def _colour_pictures(clips: list[_Clip], count: int) -> list[VideoFrame]:
    """Frames evenly spread over the first 8-bit 4:2:0 clip of limited range, else over the bundled one."""
    from pipeline.video.colour import LIMITED

    fitting = (c for c in clips if c.index.pix_fmt == "yuv420p" and c.index.colour.range == LIMITED)
    clip = next(fitting, None) or _opened(str(TRUTH))
    frames = clip.frames(clip.index.frames)
    return [frames[(2 * i + 1) * len(frames) // (2 * count)] for i in range(count)]
