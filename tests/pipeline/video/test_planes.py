from __future__ import annotations

import numpy as np
import pytest
import xxhash
from av.video.frame import VideoFrame

from pipeline.video.planes import clean_copy, hash64, plane_bytes

_SIZES = {  # bytes of a 5 x 3 picture without padding
    "yuv420p": 15 + 2 * 6, "yuv444p": 45, "yuv420p10le": 2 * (15 + 2 * 6), "nv12": 15 + 12,
    "rgb24": 45, "bgr0": 60, "gray": 15, "gbrp10le": 90, "ya8": 30, "yuva420p": 15 + 2 * 6 + 15,
}  # fmt: skip


def _filled(pix_fmt: str, seed: int = 1) -> VideoFrame:
    frame = VideoFrame(5, 3, pix_fmt)
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = np.random.default_rng(seed).integers(0, 255, plane.buffer_size)
    return frame


@pytest.mark.parametrize("pix_fmt", sorted(_SIZES))
def test_plane_bytes_leave_the_row_padding_out(pix_fmt):
    assert len(plane_bytes(_filled(pix_fmt))) == _SIZES[pix_fmt]


@pytest.mark.parametrize("pix_fmt", sorted(_SIZES))
def test_a_clean_copy_shows_the_same_picture_and_carries_nothing_else(pix_fmt):
    frame = _filled(pix_fmt)
    frame.pts = 77
    copy = clean_copy(frame, pix_fmt)
    assert plane_bytes(copy) == plane_bytes(frame)
    assert copy.pts is None
    assert hash64(copy) == hash64(frame)


def test_the_hash_names_the_picture_in_64_bits():
    frame = _filled("yuv420p")
    assert hash64(frame) == xxhash.xxh3_64_intdigest(plane_bytes(frame))
    assert hash64(frame) < 2**64
    assert hash64(frame) != hash64(_filled("yuv420p", seed=2))
