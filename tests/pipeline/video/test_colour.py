from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.errors import SourceError
from pipeline.video.colour import FULL, LIMITED, frame_to_rgb, resolve_colour, rgb_to_frame
from pipeline.video.planes import plane_rows

_KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [np.ascontiguousarray(rows).view(kind).astype(np.float64) for rows in plane_rows(frame)]


def _reference_rgb(frame: VideoFrame, matrix: int, full: bool) -> np.ndarray:
    """RGB in [0, 1] by ITU-R BT.601/709/2020 equations in float64."""
    bits = frame.format.components[0].bits
    y, u, v = _planes(frame)
    unit = 2.0 ** (bits - 8)
    peak = 2**bits - 1
    luma = y / peak if full else (y - 16 * unit) / (219 * unit)
    middle = 2.0 ** (bits - 1)
    cb, cr = ((c - middle) / (peak if full else 224 * unit) for c in (u, v))
    kr, kb = _KR_KB[matrix]
    red = luma + 2 * (1 - kr) * cr
    blue = luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue], -1)


def _noise_frame(pix_fmt: str, full: bool) -> VideoFrame:
    """A picture well inside the RGB gamut."""
    rng = np.random.default_rng(7)
    frame = VideoFrame(64, 48, pix_fmt)
    bits = frame.format.components[0].bits
    for i, plane in enumerate(frame.planes):
        low, high = (90, 170) if i == 0 else (110, 146)
        kind = np.uint8 if bits == 8 else np.uint16
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        rows[:, :] = rng.integers(low, high, rows.shape) << (bits - 8)
    return frame


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("tag_range", [LIMITED, FULL])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
def test_yuv_becomes_rgb_by_the_equations_of_its_standard(matrix, tag_range, pix_fmt):
    frame = _noise_frame(pix_fmt, tag_range == FULL)
    bits = frame.format.components[0].bits
    colour = resolve_colour((tag_range, matrix, 2, 2), pix_fmt, 64, 48)
    rgb = frame_to_rgb(frame, colour, bits)
    assert rgb.dtype == (np.uint8 if bits == 8 else np.uint16)
    expected = _reference_rgb(frame, matrix, tag_range == FULL) * np.iinfo(rgb.dtype).max
    error = np.abs(rgb - expected)
    assert error.mean() < 0.4
    assert error.max() < 1.5


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("tag_range", [LIMITED, FULL])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le", "yuv444p12le"])
def test_ten_generations_through_rgb_do_not_darken_or_brighten_a_picture(matrix, tag_range, pix_fmt):
    frame = _noise_frame(pix_fmt, tag_range == FULL)
    bits = frame.format.components[0].bits
    colour = resolve_colour((tag_range, matrix, 2, 2), pix_fmt, 64, 48)
    start = _planes(frame)[0]
    for _ in range(10):
        frame = rgb_to_frame(frame_to_rgb(frame, colour, bits), colour, pix_fmt)
    unit = 2.0 ** (bits - 8)
    drift = _planes(frame)[0] - start
    assert abs(drift.mean()) < 0.05 * unit
    assert np.abs(drift).mean() < 0.6 * unit


def test_an_untagged_picture_takes_its_matrix_from_its_size_and_says_so():
    small = resolve_colour((0, 2, 2, 2), "yuv420p", 640, 480)
    large = resolve_colour((0, 2, 2, 2), "yuv420p", 1280, 544)
    tall = resolve_colour((0, 2, 2, 2), "yuv420p", 406, 720)
    assert (small.matrix, large.matrix, tall.matrix) == (6, 1, 1)
    assert small.range == LIMITED
    assert small.matrix_origin == small.range_origin == "assumed"
    assert small.primaries == small.transfer == 2


def test_tags_of_the_source_are_kept_even_when_they_mix_standards():
    colour = resolve_colour((1, 5, 1, 6), "yuv420p", 1920, 1080)
    assert (colour.matrix, colour.range, colour.primaries, colour.transfer) == (5, 1, 1, 6)
    assert colour.matrix_origin == colour.range_origin == "source"


def test_the_old_jpeg_formats_are_full_range_whatever_else_is_said():
    assert resolve_colour((0, 1, 1, 1), "yuvj420p", 1280, 720).range == FULL


def test_a_matrix_that_cannot_be_converted_is_refused_by_name():
    colour = resolve_colour((1, 10, 9, 16), "yuv420p10le", 1920, 1080)
    with pytest.raises(SourceError, match="matrix 10") as caught:
        frame_to_rgb(VideoFrame(64, 48, "yuv420p10le"), colour, 10)
    assert caught.value.code == "unsupported_matrix"


@pytest.mark.parametrize("pix_fmt", ["gray", "rgb24", "gbrp"])
def test_grey_and_rgb_pictures_survive_the_way_to_rgb_and_back(pix_fmt):
    rgb = np.repeat(np.arange(0, 192, 4, dtype=np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    colour = resolve_colour((0, 2, 2, 2), pix_fmt, 64, 48)
    frame = rgb_to_frame(rgb, colour, pix_fmt)
    again = frame_to_rgb(frame, colour, 8)
    assert np.abs(again.astype(int) - rgb).max() <= 1
