"""Every frame says its own number: index, random access and chunked transcodes must agree with it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.settings import EncodeSettings
from pipeline.video.decode import decode_frames
from pipeline.video.types import Measured, VideoIndex
from pipeline.video.verify import measure, verify_output
from tests.pipeline.video.burned import (
    HIDDEN_FROM,
    BurnedClip,
    UnreadableNumberError,
    burn,
    halves_of,
    mean_of,
    read_number,
    write_burned,
)
from tests.pipeline.video.media import LOSSLESS, all_hashes, identity, index_of

_X264 = {"preset": "veryfast"}
_VPX = {"auto-alt-ref": "0", "lag-in-frames": "0", "deadline": "good", "cpu-used": "5", "b": "0", "crf": "10"}
_X265 = "pools=1:frame-threads=1:log-level=none:scenecut=0"
_LEADING = {
    "preset": "veryfast",
    "x265-params": f"{_X265}:keyint=8:min-keyint=8:open-gop=1:bframes=4:b-adapt=0",
}
_MPEG2 = {"b": "2000000", "bf": "2"}
_MS = Fraction(1, 1000)
_FILM = Fraction(1, 12_800)
_UNEVEN = tuple(i * i * 97 + 3 * i for i in range(48))
_LATE = tuple(range(40, 40 + 48 * 40, 40))


def _x264(params: str) -> dict[str, str]:
    return {**_X264, "x264-params": f"scenecut=0:b-adapt=0:{params}"}


CLIPS = {
    clip.name: clip
    for clip in (
        BurnedClip("x264_b.mp4", "libx264", options=_x264("keyint=12:bframes=3")),
        BurnedClip("x264_open.mkv", "libx264",
                   options=_x264("keyint=10:open-gop=1:bframes=3:b-pyramid=strict")),
        BurnedClip("x264_open.ts", "libx264", options=_x264("keyint=10:open-gop=1:bframes=3")),
        BurnedClip("x264_one_key.mp4", "libx264", options=_x264("keyint=999:bframes=3"), gop=999),
        BurnedClip("x264_late.mov", "libx264", options=_X264, time_base=_FILM,
                   pts=range(13_760, 38_336, 512)),
        BurnedClip("x264_ms.mkv", "libx264", options=_X264, time_base=_MS,
                   pts=[23 + i * 1001 // 24 for i in range(48)]),
        BurnedClip("x264_flash.flv", "libx264", options=_X264, time_base=_MS, pts=range(0, 48 * 40, 40)),
        BurnedClip("x264_uneven.mp4", "libx264", options=_x264("bframes=3"), time_base=Fraction(1, 90_000),
                   pts=_UNEVEN),
        BurnedClip("x264_444_odd.mkv", "libx264", options=_X264, width=161, height=97, pix_fmt="yuv444p"),
        BurnedClip("x264_422_10.mkv", "libx264", options=_X264, pix_fmt="yuv422p10le"),
        BurnedClip("x265_leading.mp4", "libx265", options=_LEADING),
        BurnedClip("x265_leading.mkv", "libx265", options=_LEADING),
        BurnedClip("x265_10.mp4", "libx265", pix_fmt="yuv420p10le",
                   options={"preset": "veryfast", "x265-params": _X265}),
        BurnedClip("vp8_hidden.webm", "libvpx", options={**_VPX, "b": "1000000"}, time_base=_MS, pts=_LATE,
                   gop=24, hide=8),
        BurnedClip("vp9_hidden.webm", "libvpx-vp9", options=_VPX, time_base=_MS, pts=_LATE, gop=99, hide=12,
                   hide_keys=True, packed=False),
        BurnedClip("vp9_superframes.webm", "libvpx-vp9", options=_VPX, time_base=_MS, pts=_LATE, gop=99,
                   hide=12, hide_keys=True),
        BurnedClip("vp9_odd.webm", "libvpx-vp9", options=_VPX, width=161, height=97, time_base=_MS,
                   pts=_LATE),
        BurnedClip("mpeg2.ts", "mpeg2video", options=_MPEG2),
        BurnedClip("mpeg2.mpg", "mpeg2video", options=_MPEG2),
        BurnedClip("mpeg4.avi", "mpeg4", options={"b": "2000000"}),
        BurnedClip("mpeg4_b.avi", "mpeg4", options={"b": "2000000", "bf": "2"}),
        BurnedClip("svt.mp4", "libsvtav1", gop=16,
                   options={"preset": "8", "crf": "20", "svtav1-params": "lp=1"}),
        BurnedClip("ffv1.mkv", "ffv1", options={"level": "3"}),
    )
}  # fmt: skip
#: Key packets, and packets behind a key that are shown before it: what the encoder was asked for.
STRUCTURE = {
    "x264_b.mp4": (4, 0), "x264_open.mkv": (5, 4), "x264_open.ts": (5, 4), "x264_one_key.mp4": (1, 0),
    "x265_leading.mp4": (6, 10), "x265_leading.mkv": (6, 10), "mpeg2.ts": (5, 7), "mpeg2.mpg": (5, 7),
    "mpeg4_b.avi": (5, 7),
}  # fmt: skip
CHUNKS = (1, 2, 3, 12, 48)
LOSSY = EncodeSettings(codec="libx264", crf=20, preset="veryfast")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Path and index by name, each made at its first use."""
    folder = tmp_path_factory.mktemp("burned")

    @cache
    def made(name: str) -> tuple[str, VideoIndex]:
        path = write_burned(folder, CLIPS[name])
        return path, index_of(path)

    return made


def _numbers(path: str) -> list[int]:
    with av.open(path) as container:
        return [read_number(frame) for frame in container.decode(video=0)]


def _packets(path: str) -> list[tuple[int | None, bool]]:
    with av.open(path) as container:
        return [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "gray"])
@pytest.mark.parametrize("number", [0, 1, 47, 255, 256, 65_535])
def test_a_burned_number_is_read_back_and_two_mixed_pictures_are_not(number, pix_fmt):
    one, other = burn(number, 161, 97, pix_fmt), burn(number ^ 0b101, 161, 97, pix_fmt)
    assert read_number(one) == number
    for spoiled in (mean_of(one, other), halves_of(one, other), halves_of(other, one)):
        with pytest.raises(UnreadableNumberError):
            read_number(spoiled)


@pytest.mark.parametrize("name", sorted(STRUCTURE))
def test_the_clips_have_the_keys_and_leading_pictures_they_are_named_for(clips, name):
    packets = _packets(clips(name)[0])
    keys = [i for i, (_, key) in enumerate(packets) if key]
    leading = [i for i, (pts, _) in enumerate(packets) if any(pts < packets[k][0] for k in keys if k < i)]
    assert (len(keys), len(leading)) == STRUCTURE[name]


@pytest.mark.parametrize(("name", "extra"), [("vp8_hidden.webm", 6), ("vp9_hidden.webm", 4)])
def test_the_clips_with_hidden_frames_have_more_packets_than_pictures(clips, name, extra):
    assert len(_packets(clips(name)[0])) == 48 + extra


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_the_index_lists_every_frame_once_and_in_the_order_of_its_number(clips, name):
    path, index = clips(name)
    assert _numbers(path) == list(range(48))
    assert index.frames == len(index.frame_hashes) == len(set(index.frame_hashes)) == 48
    assert all(a < b for a, b in pairwise(index.pts))
    # Transport and program streams, Flash and AVI with B-frames start their clock somewhere else.
    clip = CLIPS[name]
    start = index.pts[0] * index.time_base - clip.times[0] * clip.time_base
    times = [pts * index.time_base - start for pts in index.pts]
    assert times == [pts * clip.time_base for pts in clip.times]
    assert start == 0 or name.endswith((".ts", ".mpg", ".flv", "_b.avi"))


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_a_sound_clip_is_warned_about_only_for_what_it_loses(clips, name):
    # An MPEG-2 group of pictures has a time code in its header.
    expected = ("dropped_side_data: gop_timecode",) if name.startswith("mpeg2") else ()
    assert clips(name)[1].warnings == expected


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_any_range_of_ordinals_yields_the_frames_with_these_numbers(clips, name):
    path, index = clips(name)
    rng = np.random.default_rng(3)
    ranges = [(0, 48), (47, 48), *(tuple(sorted(rng.integers(0, 49, 2))) for _ in range(14))]
    for a, b in ranges:
        frames = list(decode_frames(path, index, int(a), int(b)))
        assert [read_number(frame) for frame in frames] == list(range(a, b))
        assert [frame.pts for frame in frames] == list(index.pts[a:b])


def _outcome(
    clip: tuple[str, VideoIndex], folder: Path, settings: EncodeSettings, chunk: int, gop: int
) -> Measured:
    """What a finished output holds, after it passed verification and its numbers were read."""
    path, index = clip
    trip = identity(path, index, folder, settings, chunk=chunk, gop=gop)
    measured, problems = verify_output(trip.output, path, index, trip.segments, trip.assembly)
    assert problems == ()
    assert measured.frame_hashes == tuple(all_hashes(trip.segments))
    assert len(trip.segments) == -(-index.frames // (chunk * gop))
    assert _numbers(trip.output) == list(range(48))
    assert [p * measured.time_base for p in measured.pts] == [p * index.time_base for p in index.pts]
    return measured


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_lossless_chunks_of_any_size_give_back_the_pictures_numbers_and_times(clips, tmp_path, name):
    path, index = clips(name)
    # H.264 cannot hold 4:2:0 pictures of odd size.
    settings = EncodeSettings(codec="ffv1") if name == "vp9_odd.webm" else LOSSLESS
    expected = measure(path).frames_md5
    for frames in (*CHUNKS, index.frames):
        outcome = _outcome((path, index), tmp_path / str(frames), settings, chunk=1, gop=frames)
        assert outcome.frames_md5 == expected


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_lossy_pictures_do_not_depend_on_how_groups_are_shared_out_over_segments(clips, tmp_path, name):
    clip = clips(name)
    # 48 frames in groups of six, with B-frames: segments of 1, 2, 3 and all 8 groups.
    outcomes = {_outcome(clip, tmp_path / str(chunk), LOSSY, chunk=chunk, gop=6) for chunk in (1, 2, 3, 8)}
    assert len(outcomes) == 1
    assert outcomes.pop().frames_md5 != measure(clip[0]).frames_md5


def test_a_hidden_frame_is_never_shown_even_when_an_output_starts_with_it(clips):
    path, index = clips("vp9_hidden.webm")
    for a in (0, 12, 24, 36):
        (frame,) = decode_frames(path, index, a, a + 1)
        assert read_number(frame) < HIDDEN_FROM


def test_an_index_that_names_another_picture_is_not_believed(clips):
    path, index = clips("x264_open.ts")
    hashes = list(index.frame_hashes)
    hashes[20], hashes[21] = hashes[21], hashes[20]
    with pytest.raises(SourceError, match="Frame 20"):
        list(decode_frames(path, replace(index, frame_hashes=tuple(hashes)), 20, 22))
