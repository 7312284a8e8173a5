from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.video import decode
from pipeline.video.decode import decode_frames
from pipeline.video.opening import Decoder
from pipeline.video.planes import hash64
from pipeline.video.rgb import decode_rgb
from tests.pipeline.video.media import Clip, index_of, make_clip

_LONG = tuple(range(0, 70 * 512, 512))
_CLIPS = {
    "closed.mp4": Clip(pts=_LONG),
    "open.mp4": Clip(pts=_LONG, options={"x264-params": "keyint=10:open-gop=1:bframes=3:scenecut=0"}),
    "variable.mp4": Clip(pts=tuple(i * i * 7 + i for i in range(70))),
    "late.mkv": Clip(pts=tuple(range(777, 777 + 70 * 40, 40)), time_base=Fraction(1, 1000)),
    "stream.ts": Clip(pts=_LONG),
    "old.avi": Clip(pts=tuple(range(50)), time_base=Fraction(1, 25), codec="mpeg4"),
}


@pytest.mark.parametrize("name", sorted(_CLIPS))
def test_any_range_of_frames_equals_the_linear_decode(tmp_path, name):
    path = make_clip(tmp_path / name, _CLIPS[name])
    index = index_of(path)
    rng = np.random.default_rng(5)
    ranges = [(0, index.frames), *(tuple(sorted(rng.integers(0, index.frames + 1, 2))) for _ in range(8))]
    for a, b in ranges:
        frames = list(decode_frames(path, index, int(a), int(b)))
        assert [f.pts for f in frames] == list(index.pts[a:b])
        assert [hash64(f) for f in frames] == list(index.frame_hashes[a:b])


def test_single_frames_far_apart_come_as_rgb_in_the_order_asked(tmp_path):
    path = make_clip(tmp_path / "a.mp4", _CLIPS["open.mp4"])
    index = index_of(path)
    whole = decode_rgb(path, index, range(index.frames))
    picks = [0, 1, 33, 34, 69]
    assert whole.shape == (70, 48, 64, 3)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(decode_rgb(path, index, picks), whole[picks])


def test_ten_bit_pictures_come_as_sixteen_bit_rgb(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(pix_fmt="yuv420p10le"))
    index = index_of(path)
    rgb = decode_rgb(path, index, [3])
    assert index.bit_depth == 10
    assert rgb.dtype == np.uint16
    assert rgb.max() > 255 * 200


def test_a_wrong_key_list_costs_time_and_never_a_frame(tmp_path):
    path = make_clip(tmp_path / "a.mp4", _CLIPS["closed.mp4"])
    index = index_of(path)
    lying = replace(index, key_pts=index.pts, key_dts=index.pts)
    assert [f.pts for f in decode_frames(path, lying, 41, 44)] == list(index.pts[41:44])


def test_a_changed_source_is_noticed_at_the_first_wrong_frame(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    index = index_of(path)
    hashes = list(index.frame_hashes)
    hashes[13] ^= 1
    frames = decode_frames(path, replace(index, frame_hashes=tuple(hashes)), 12, 20)
    next(frames)
    with pytest.raises(SourceError, match="Frame 13") as caught:
        next(frames)
    assert (caught.value.code, caught.value.facts["frame"]) == ("decode_mismatch", 13)


def test_a_source_that_lost_frames_is_noticed(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    index = index_of(path)
    longer = replace(index, pts=(*index.pts, index.pts[-1] + 512), frame_hashes=(*index.frame_hashes, 1))
    with pytest.raises(SourceError) as caught:
        list(decode_frames(path, longer, 20, 25))
    assert caught.value.code == "decode_mismatch"


def test_more_ranges_in_a_row_than_python_calls_may_nest_decode_like_few(tmp_path):
    frames = sys.getrecursionlimit() + 50
    path = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, frames * 512, 512), width=16, height=16))
    index = index_of(path)
    one_by_one = [hash64(frame) for at in range(frames) for frame in decode_frames(path, index, at, at + 1)]
    assert one_by_one == list(index.frame_hashes)


def test_ranges_outside_the_video_and_unsorted_ordinals_are_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    index = index_of(path)
    with pytest.raises(ValueError, match="24 frames"):
        list(decode_frames(path, index, 3, 25))
    with pytest.raises(ValueError, match="increasing"):
        decode_rgb(path, index, [4, 4])
    assert decode_rgb(path, index, []).shape == (0, 48, 64, 3)


def test_a_range_that_starts_on_a_key_frame_decodes_nothing_before_it(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", _CLIPS["closed.mp4"])
    index = index_of(path)
    start = index.pts.index(index.key_pts[3])
    decoded, real = [], Decoder.decode

    def noting(self, packet, count):
        frames = real(self, packet, count)
        decoded.extend(frame.pts for frame in frames)
        return frames

    monkeypatch.setattr(Decoder, "decode", noting)
    assert [f.pts for f in decode_frames(path, index, start, start + 2)] == list(index.pts[start : start + 2])
    assert min(decoded) == index.pts[start]


def test_a_seek_that_was_not_enough_is_repeated_one_key_frame_early(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", _CLIPS["closed.mp4"])
    index = index_of(path)
    tries = []

    def failing_first(preroll, path, index, a):
        tries.append((a, preroll))
        frames = decode._after_seek(preroll, path, index, a)
        yield from islice(frames, 2) if preroll == 0 else frames

    ways = [partial(failing_first, preroll) for preroll in (0, 1)]
    monkeypatch.setattr(decode, "_WAYS", (*ways, decode._from_start))
    assert [f.pts for f in decode_frames(path, index, 41, 47)] == list(index.pts[41:47])
    assert tries == [(41, 0), (43, 1)]
