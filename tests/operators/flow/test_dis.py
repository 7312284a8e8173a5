"""DIS finds known motions, on pictures of any size, with any number of threads."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from operators.flow.dis import dis_flow, grey
from tests.support.moving_pictures import codes, pan


@pytest.mark.parametrize("velocity", [(1.0, 0.0), (0.5, -0.25), (-3.3, 1.7), (6.4, 2.2)])
def test_a_known_translation_is_found_to_a_tenth_of_a_pixel(velocity: tuple[float, float]) -> None:
    here, there = (codes(frame) for frame in pan(2, velocity))
    inner = dis_flow(here, there)[12:-12, 12:-12].reshape(-1, 2)
    assert np.abs(np.median(inner, axis=0) - velocity).max() < 0.1


def test_the_flow_of_a_picture_to_itself_is_nothing() -> None:
    (here,) = (codes(frame) for frame in pan(1, (0.0, 0.0)))
    assert np.abs(dis_flow(here, here)).max() < 1e-6


def test_the_number_of_threads_changes_no_bit() -> None:
    # Occlusion and noise make the search work; a smooth pan would agree by luck.
    rng = np.random.Generator(np.random.PCG64(5))
    noisy = (frame + 0.05 * rng.standard_normal(frame.shape) for frame in pan(2, (5.0, 3.0), 180, 320))
    here, there = (codes(frame) for frame in noisy)
    there[40:90, 100:170] = 255 - there[40:90, 100:170]
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2, 3, 8):
            cv2.setNumThreads(threads)
            found.append(dis_flow(here, there))
    finally:
        cv2.setNumThreads(before)
    for other in found[1:]:
        assert np.array_equal(found[0], other)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 128), (128, 8), (28, 512)])
def test_pictures_too_small_for_opencv_have_a_flow_too(size: tuple[int, int]) -> None:
    # In a process of its own: without padding, OpenCV 5.0 crashes on (8, 128) and (28, 512).
    code = (
        "import numpy as np\n"
        "from operators.flow.dis import dis_flow\n"
        f"a = np.random.default_rng(0).integers(0, 255, {size}).astype(np.uint8)\n"
        "f = dis_flow(a, np.roll(a, 1, 1))\n"
        f"assert f.shape == {(*size, 2)} and np.isfinite(f).all()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_sixteen_bit_pictures_move_as_their_eight_bit_versions() -> None:
    here, there = (codes(frame) for frame in pan(2, (2.0, 0.0)))
    deep = [frame.astype(np.uint16) * 257 for frame in (here, there)]
    assert np.array_equal(dis_flow(*deep), dis_flow(here, there))
    assert np.array_equal(dis_flow(grey(here), grey(there)), dis_flow(here, there))


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(40, 40\)"):
        dis_flow(np.zeros((40, 40), np.uint8), np.zeros((40, 44), np.uint8))
