"""HDR pictures under the curve of a common display, and back, for models that know nothing else.

Code values of PQ and HLG look flat and dark to a model trained on common pictures. Here they become light
(SMPTE ST 2084, EOTF; ITU-R BT.2100, HLG inverse OETF), are divided by the peak and get the power 1/2.4 that
ITU-R BT.1886 displays undo. Light above the peak is cut.
"""

from __future__ import annotations

import numpy as np

from pipeline.video.types import Hdr

TRANSFER_PQ, TRANSFER_HLG = 16, 18
_PQ_PEAK = 10_000
#: Peak of PQ streams that do not name theirs: what most of them were mastered for.
_USUAL_PEAK = 1_000
_DISPLAY_GAMMA = 2.4
_WHITE = np.float64(65535)

# SMPTE ST 2084, 5.1 and 5.2.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# ITU-R BT.2100, table 5.
_A = 0.17883277
_B = 1 - 4 * _A
_C = 0.5 - _A * np.log(4 * _A)


def light_peak(transfer: int, hdr: Hdr | None) -> int:
    """The luminance in cd/m2 that becomes white: what the stream says is its brightest, else 1000.

    HLG is relative to its display; its peak counts as 1000.
    """
    if transfer == TRANSFER_HLG or hdr is None:
        return _USUAL_PEAK
    if hdr.content_light and hdr.content_light[0]:
        return min(hdr.content_light[0], _PQ_PEAK)
    if hdr.mastering and hdr.mastering[9][0] and hdr.mastering[9][1]:
        numerator, denominator = hdr.mastering[9]
        return min(max(1, round(numerator / denominator)), _PQ_PEAK)
    return _USUAL_PEAK


def to_display(rgb: np.ndarray, transfer: int, peak: int) -> np.ndarray:
    """uint16 code values of PQ or HLG, [..., 3] over 0..65535, to uint16 under a display's curve."""
    curve = _light_of_codes(transfer, peak)
    return np.asarray(curve[rgb])


def from_display(rgb: np.ndarray, transfer: int, peak: int) -> np.ndarray:
    """Inverse of `to_display` up to rounding, for light up to the peak."""
    curve = _codes_of_light(transfer, peak)
    return np.asarray(curve[rgb])


def _light_of_codes(transfer: int, peak: int) -> np.ndarray:
    """Lookup table, 65536 entries: a function of one code value is computed once per value."""
    codes = np.arange(65536) / _WHITE
    if transfer == TRANSFER_PQ:
        power = codes ** (1 / _M2)
        light = (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1) * (_PQ_PEAK / peak)
    else:
        light = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - _C) / _A) + _B) / 12)
    shown = np.clip(light, 0, 1) ** (1 / _DISPLAY_GAMMA)
    return np.rint(shown * _WHITE).astype(np.uint16)


def _codes_of_light(transfer: int, peak: int) -> np.ndarray:
    light = (np.arange(65536) / _WHITE) ** _DISPLAY_GAMMA
    if transfer == TRANSFER_PQ:
        power = (light * (peak / _PQ_PEAK)) ** _M1
        codes = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    else:
        high = np.log(np.maximum(12 * light - _B, 1e-9))
        codes = np.where(light <= 1 / 12, np.sqrt(3 * light), _A * high + _C)
    return np.rint(np.clip(codes, 0, 1) * _WHITE).astype(np.uint16)
