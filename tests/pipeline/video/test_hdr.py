"""HDR code values as light for a model that knows common displays, and back."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.video.hdr import TRANSFER_HLG, TRANSFER_PQ, from_display, light_peak, to_display
from pipeline.video.types import Hdr

_TEN_BITS = np.rint(np.arange(1024) / 1023 * 65535).astype(np.uint16)
_MASTERING = (*((0, 1),) * 8, (50, 10_000), (40_000_000, 10_000))


@pytest.mark.parametrize(
    ("transfer", "peak"), [(TRANSFER_PQ, 100), (TRANSFER_PQ, 1000), (TRANSFER_PQ, 4000), (TRANSFER_HLG, 1000)]
)
def test_every_10_bit_code_below_the_peak_comes_back_exactly(transfer, peak):
    shown = to_display(_TEN_BITS, transfer, peak)
    back = np.rint(from_display(shown, transfer, peak) / 65535 * 1023)
    below = shown < 65535
    assert below.sum() > 500
    assert np.array_equal(back[below], np.arange(1024)[below])
    assert (np.diff(shown.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("code", "nits"),
    [(0.508078, 100), (0.580689, 203), (0.751827, 1000)],  # ITU-R BT.2408, table 1 and ST 2084.
)
def test_pq_codes_of_known_luminance_are_shown_as_that_share_of_the_peak(code, nits):
    shown = to_display(np.array([round(code * 65535)], np.uint16), TRANSFER_PQ, 4000)[0] / 65535
    assert shown**2.4 * 4000 == pytest.approx(nits, rel=2e-3)


def test_hlg_reference_white_is_where_bt2100_puts_it():
    # 75 % HLG is the scene light 0.265 (BT.2408); the curve meets 1/12 at half signal.
    half, white = to_display(np.array([32768, 49151], np.uint16), TRANSFER_HLG, 1000) / 65535
    assert half**2.4 == pytest.approx(1 / 12, rel=1e-3)
    assert white**2.4 == pytest.approx(0.265, abs=2e-3)


def test_what_is_brighter_than_the_peak_is_cut_to_it():
    shown = to_display(np.array([65535], np.uint16), TRANSFER_PQ, 1000)
    assert shown[0] == 65535
    back = from_display(shown, TRANSFER_PQ, 1000)[0] / 65535
    assert back == pytest.approx(0.751827, abs=1e-4)


@pytest.mark.parametrize(
    ("hdr", "peak"),
    [
        (None, 1000),
        (Hdr(_MASTERING, (1200, 300)), 1200),
        (Hdr(_MASTERING, None), 4000),
        (Hdr(_MASTERING, (0, 0)), 4000),
        (Hdr(None, (60_000, 400)), 10_000),
    ],
)
def test_the_peak_is_what_the_stream_says_is_its_brightest(hdr, peak):
    assert light_peak(TRANSFER_PQ, hdr) == peak
    assert light_peak(TRANSFER_HLG, hdr) == 1000
