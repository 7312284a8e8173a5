"""`reelweave compare`: a clip of a published video beside its source, or of both in one divided picture."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from jobs.console import DONE, quiet_stdout, say
from jobs.frames import Rgb
from jobs.local_copy import local_copy
from jobs.outputs import open_output
from jobs.report_spans import Clip, decoded, open_clip
from pipeline.errors import SourceError, SpecError

if TYPE_CHECKING:
    from pipeline.manifest import VideoRow

Layout = Literal["side", "split"]
_GAP = 4
_LINE = 255
_CRF = "16"


def command(
    out: str,
    video: str | None,
    target: Path,
    layout: Layout,
    at: float,
    seconds: float,
    endpoint_url: str | None,
) -> int:
    """Write the clip to ``target``. Raises SpecError for a video or moment that is not there, StoreError, and
    SourceError when one of the two does not decode."""
    from pipeline.manifest import read_video_rows

    if target.suffix.lower() not in (".mp4", ".mov", ".mkv"):
        raise SpecError(
            f"--to: expected a file name that ends in .mp4, .mov or .mkv, found {target}", field="--to"
        )
    with quiet_stdout(), ExitStack() as files:
        store = open_output(out, endpoint_url)
        row = chosen(read_video_rows(store), video, store.root)
        before = open_clip(local_copy(files, row.video_uri, store.storage))
        after = open_clip(local_copy(files, store.uri(row.output_rel), store.storage))
        write_comparison(before, after, target, layout, at, seconds)
    say(f"wrote {target}")
    return DONE


def chosen(rows: Sequence[VideoRow], video: str | None, root: str) -> VideoRow:
    """The one done row whose source or output ends in ``video``, or the only one. Raises SpecError."""
    done = [row for row in rows if row.status == "done"]
    named = [row for row in done if video is None or video in _names(row)]
    if len(named) == 1:
        return named[0]
    if not done:
        raise SpecError(f"{root}: no video is done; see 'reelweave status {root}'", field="OUT")
    known = ", ".join(row.output_rel for row in done[:8]) + (", ..." if len(done) > 8 else "")
    found = "which one is not said" if video is None else f"{len(named)} are called {video!r}"
    raise SpecError(f"--video: {found}; give one of {known}", field="--video")


def _names(row: VideoRow) -> set[str]:
    """What a video may be called: its addresses, and every end of them that begins after a slash."""
    return {
        "/".join(parts[at:])
        for whole in (row.video_uri, row.output_uri, row.output_rel)
        for parts in (whole.split("/"),)
        for at in range(len(parts))
    }


def write_comparison(
    before: Clip, after: Clip, target: Path, layout: Layout, at: float, seconds: float
) -> None:
    """Encode the frames of ``[at, at + seconds)`` in H.264, with the times of ``after``; ``target`` appears
    whole or not at all."""
    ordinals = _ordinals(after, at, seconds)
    counts = len(before.times), len(after.times)
    if counts[0] != counts[1]:
        raise SourceError(
            f"{before.path} has {counts[0]} frames and {after.path} {counts[1]}; was the source "
            "replaced since the run?",
            code="source_changed",
        )
    pictures = (
        composed(b, a, layout) for b, a in zip(*(_frames(c, ordinals) for c in (before, after)), strict=True)
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".reelweave-", dir=target.parent) as folder:
            temporary = Path(folder) / f"clip{target.suffix}"
            _encode(temporary, pictures, [after.times[o] - after.times[ordinals[0]] for o in ordinals], after)
            os.replace(temporary, target)
    except OSError as error:
        raise SpecError(
            f"--to: {target} cannot be written: {error.strerror or error}", field="--to"
        ) from None


def composed(before: Rgb, after: Rgb, layout: Layout) -> Rgb:
    """One picture of both, RGB [h, w, 3] with even sides; ``before`` is brought to the size of ``after``.

    ``side``: next to each other. ``split``: the left half of one, the right half of the other, and a line.
    """
    import cv2

    height, width = after.shape[0] // 2 * 2, after.shape[1] // 2 * 2
    after = after[:height, :width]
    before = np.asarray(cv2.resize(before, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    if layout == "side":
        return np.concatenate([before, np.full((height, _GAP, 3), _LINE, np.uint8), after], axis=1)
    middle = width // 2
    both = np.concatenate([before[:, :middle], after[:, middle:]], axis=1)
    both[:, middle - 1 : middle + 1] = _LINE
    return both


def _ordinals(clip: Clip, at: float, seconds: float) -> range:
    start = clip.seconds(0) if clip.times else 0.0
    wanted = [o for o in range(len(clip.times)) if at <= clip.seconds(o) - start < at + seconds]
    if not wanted:
        length = clip.seconds(-1) - start if clip.times else 0.0
        raise SpecError(
            f"--at: nothing is shown from {at:g} s on; the video is {length:.2f} s long", field="--at"
        )
    return range(wanted[0], wanted[-1] + 1)


def _frames(clip: Clip, ordinals: range) -> Iterator[Rgb]:
    """Exactly these frames, one at a time."""
    wanted = list(ordinals)
    for pts, rgb in decoded(clip, clip.times[wanted[0]], clip.times[wanted[-1]]):
        if not wanted or pts != clip.times[wanted[0]]:
            break
        del wanted[0]
        yield rgb
    if wanted:
        raise SourceError(
            f"{clip.path}: frame {wanted[0]} does not decode", code="unreadable", frame=wanted[0]
        )


def _encode(path: Path, pictures: Iterator[Rgb], times: Sequence[int], clip: Clip) -> None:
    import av

    base: Fraction = clip.facts.time_base
    with av.open(str(path), "w") as made:
        stream = made.add_stream("libx264", rate=clip.facts.average_rate or 25)
        stream.pix_fmt, stream.options = "yuv420p", {"crf": _CRF}
        stream.codec_context.time_base = base
        for time, picture in zip(times, pictures, strict=True):
            if not stream.codec_context.is_open:
                stream.width, stream.height = picture.shape[1], picture.shape[0]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, base
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
