"""Frames of evaluation clips, read without the pipeline's guarantees: only the pictures matter here."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SpecError

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")


def clips_below(folder: Path) -> list[Path]:
    """All videos below ``folder``, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def first_frames(path: Path, count: int) -> NDArray[np.uint8]:
    """Up to ``count`` frames RGB [n, h, w, 3]. Raises SpecError when the file is no video."""
    import av

    try:
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in islice(container.decode(video=0), count)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise SpecError(f"--pictures: {path} is no readable video: {error}", field="--pictures") from error
    if not frames:
        raise SpecError(f"--pictures: {path} holds no frames", field="--pictures")
    return np.stack(frames)
