"""Sources that are not plain: refused by default, processed as the job says, and never without a word."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.errors import SourceError, SpecError
from pipeline.settings import EncodeSettings, Limits, VideoPolicy
from pipeline.video.assemble import assemble
from pipeline.video.container import choose_container
from pipeline.video.encode import encode_rgb_segment, encode_source_segment
from pipeline.video.encoders import choose_pix_fmt, plan_encoder
from pipeline.video.fields import FieldDetective
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, open_media
from pipeline.video.planes import hash64
from pipeline.video.rgb import decode_rgb
from pipeline.video.treat import treated_frames
from pipeline.video.verify import verify_output
from tests.pipeline.video.media import LOSSLESS, Clip, make_clip, picture, remux

FFV1 = EncodeSettings(codec="ffv1")
VP9 = EncodeSettings(codec="libvpx-vp9", crf=0, preset="ultrafast")


def _index(path, policy=None):
    return build_index(str(path), f"s3://in/{Path(path).name}", Limits(), "digest", policy)


def _refusal(path, policy=None):
    with pytest.raises(SourceError) as caught:
        _index(path, policy)
    return caught.value


def _trip(path, policy, folder, settings, chunk=7):
    """Identity through the whole chain; returns index, output path and what verification says."""
    index = _index(path, policy)
    assert index_from_bytes(index_to_bytes(index)) == index
    folder.mkdir(exist_ok=True)
    paths, segments = [], []
    for a in range(0, index.frames, chunk):
        b = min(a + chunk, index.frames)
        paths.append(str(folder / f"{a}.mkv"))
        frames = treated_frames(str(path), index, a, b)
        segments.append(encode_source_segment(paths[-1], frames, [b - a], index, settings))
    container = choose_container(index, settings)
    out = str(folder / f"out.{container}")
    assembly = assemble(str(path), index, paths, segments, out, container, settings)
    measured, problems = verify_output(out, str(path), index, segments, assembly)
    assert problems == ()
    return index, out, measured


def _rows(frame, number, kind="u1"):
    """The samples of one plane, without padding."""
    plane = frame.planes[number]
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]


def _decoded(path, *, alpha=False):
    with open_media(path, 2**31 - 1) as container:
        stream = container.streams.video[0]
        return list(decode_stream(container, stream, Decoder(stream, alpha=alpha), DecodeCount()))


# Times


def _doubled(folder):
    """24 frames of 40 ms, two of them at the same time."""
    path = make_clip(folder / "a.mp4", Clip(options={"bf": "0"}))
    return Path(remux(path, folder / "b.mkv", times=lambda i: 40 * (i if i != 9 else 8)))


def test_a_doubled_time_is_refused_or_moved_between_its_neighbours(tmp_path):
    path = _doubled(tmp_path)
    assert _refusal(path).code == "duplicate_pts"
    index, _, measured = _trip(path, VideoPolicy(timestamps="rebuild"), tmp_path / "o", LOSSLESS)
    assert index.pts == tuple(40 * i for i in range(24))
    assert index.average_rate == 25
    assert [w for w in index.warnings if w.startswith("pts_rebuilt=1")]
    assert measured.frames == 24


def _raw_stream(folder):
    with av.open(make_clip(folder / "a.mp4")) as source, open(folder / "a.h264", "wb") as raw:
        stream = source.streams.video[0]
        annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in source.demux(stream):
            for changed in annex_b.filter(packet if packet.size else None):
                raw.write(bytes(changed))
    return folder / "a.h264"


def test_a_raw_stream_is_refused_until_a_rate_is_given_for_it(tmp_path):
    path = _raw_stream(tmp_path)
    refusal = _refusal(path)
    assert refusal.code == "no_timestamps"
    assert "video.assume_fps" in refusal.message
    index, _, measured = _trip(path, VideoPolicy(assume_fps="30000/1001"), tmp_path / "o", LOSSLESS)
    assert index.time_base == Fraction(1, 30_000)
    assert index.pts == tuple(1001 * i for i in range(24))
    assert measured.frame_hashes == tuple(_hashes(make_clip(tmp_path / "again.mp4")))


def test_a_rate_that_is_given_changes_nothing_where_times_are_known(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    assert _index(path, VideoPolicy(assume_fps="10")).pts == _index(path).pts


def _hashes(path):
    return [hash64(frame) for frame in _decoded(path)]


# Damage


def _cut_off(folder):
    path = make_clip(folder / "a.mp4", Clip(pts=range(0, 120 * 512, 512)))
    data = Path(remux(path, folder / "f.mp4", options={"movflags": "faststart"})).read_bytes()
    (folder / "x.mp4").write_bytes(data[: int(len(data) * 0.7)])
    return path, folder / "x.mp4"


def test_a_file_that_was_cut_off_is_processed_as_far_as_it_goes_only_on_request(tmp_path):
    whole, cut = _cut_off(tmp_path)
    refusal = _refusal(cut)
    assert refusal.code == "truncated"
    assert "--allow-partial" in refusal.message
    index, _, measured = _trip(cut, VideoPolicy(partial=True), tmp_path / "o", LOSSLESS)
    assert 20 < index.frames < 120
    (said,) = [w for w in index.warnings if w.startswith("partial")]
    assert f"{index.frames} frames of about 120" in said
    # All but what the cut went through are the whole file's own pictures.
    same = sum(a == b for a, b in zip(measured.frame_hashes, _hashes(whole), strict=False))
    assert same >= index.frames - 4


# Size


def _two_sizes(folder, second=(96, 48)):
    names = []
    for n, (width, height) in enumerate(((64, 48), second)):
        clip = Clip(width=width, height=height, codec="mpeg2video", time_base=Fraction(1, 25),
                    pts=range(50 * n, 50 * n + 12))  # fmt: skip
        names.append(make_clip(folder / f"{n}.ts", clip))
    (folder / "x.ts").write_bytes(b"".join(Path(name).read_bytes() for name in names))
    return folder / "x.ts"


def test_pictures_that_change_size_are_refused_or_scaled_to_the_first(tmp_path):
    path = _two_sizes(tmp_path)
    refusal = _refusal(path)
    assert (refusal.code, refusal.facts["frame"]) == ("resolution_change", 11)
    assert "64x48" in refusal.message
    assert "96x48" in refusal.message
    assert "video.size_change: scale" in refusal.message
    index, out, _ = _trip(path, VideoPolicy(size_change="scale"), tmp_path / "o", LOSSLESS)
    assert any(w.startswith("size_change: 96x48 yuv420p from frame 11") for w in index.warnings)
    assert {(f.width, f.height) for f in _decoded(out)} == {(64, 48)}
    rgb = decode_rgb(str(path), index, range(index.frames))
    assert rgb.shape == (index.frames, 48, 64, 3)


def test_a_change_to_more_pixels_than_the_limit_is_refused_even_when_scaling(tmp_path):
    path = _two_sizes(tmp_path, second=(640, 480))
    with pytest.raises(SourceError) as caught:
        build_index(str(path), "x", Limits(max_pixels=64 * 48), "digest", VideoPolicy(size_change="scale"))
    # The decoder itself refuses such pictures, before it has memory for one.
    assert caught.value.code == "damaged"


def test_a_file_of_which_much_cannot_be_decoded_is_refused_unless_a_part_will_do(tmp_path):
    path = _two_sizes(tmp_path, second=(640, 480))
    limits, part = Limits(max_pixels=64 * 48), VideoPolicy(partial=True)
    index = build_index(str(path), "x", limits, "digest", part)
    assert index.frames == 11
    assert index.decode_errors >= 12


# Fields


def _woven(folder, *, flagged, bottom=False):
    """Twelve frames whose lines belong to two moments, 20 ms apart, of something that moves fast."""
    options = {"preset": "veryfast", "crf": "8"}
    options["x264-params"] = ("bff=1" if bottom else "tff=1") if flagged else "keyint=12"
    path = folder / f"woven-{flagged}-{bottom}.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(12):
            woven = np.empty((96, 128, 3), np.uint8)
            first, second = picture(6 * i, 128, 96), picture(6 * i + 3, 128, 96)
            woven[0::2], woven[1::2] = (second[0::2], first[1::2]) if bottom else (first[0::2], second[1::2])
            frame = VideoFrame.from_ndarray(woven, "rgb24").reformat(format="yuv420p")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _combing(frames):
    """Mean difference of neighbouring lines over that of lines two apart."""
    luma = [
        np.frombuffer(f.planes[0], np.uint8).reshape(f.height, -1)[:, : f.width].astype(int) for f in frames
    ]
    near = np.mean([np.abs(np.diff(y, axis=0)).mean() for y in luma])
    far = np.mean([np.abs(y[2:] - y[:-2]).mean() for y in luma])
    return near / far


def test_fields_stay_woven_are_refused_or_become_whole_pictures(tmp_path):
    path = _woven(tmp_path, flagged=True)
    kept, _, _ = _trip(path, VideoPolicy(interlaced="keep"), tmp_path / "k", LOSSLESS)
    assert kept.interlaced_frames == 12
    assert any("keep both fields woven" in w for w in kept.warnings)
    assert _refusal(path, VideoPolicy(interlaced="reject")).code == "interlaced"
    index, out, _ = _trip(path, VideoPolicy(interlaced="deinterlace"), tmp_path / "d", LOSSLESS)
    assert any("deinterlaced" in w for w in index.warnings)
    assert index.pts == kept.pts
    whole = _decoded(out)
    assert not any(frame.interlaced_frame for frame in whole)
    assert _combing(whole) < 0.8 < 1.2 < _combing(_decoded(str(path)))
    assert plan_encoder(index, LOSSLESS, 128, 96).fields == "prog"


def test_a_deinterlaced_frame_does_not_depend_on_the_range_it_was_read_in(tmp_path):
    path = str(_woven(tmp_path, flagged=True))
    index = _index(path, VideoPolicy(interlaced="deinterlace"))
    whole = [hash64(frame) for frame in treated_frames(path, index, 0, 12)]
    assert len(set(whole)) == 12
    for a, b in ((0, 1), (0, 5), (3, 4), (5, 11), (11, 12)):
        assert [hash64(frame) for frame in treated_frames(path, index, a, b)] == whole[a:b]


@pytest.mark.parametrize("bottom", [False, True])
def test_combing_without_a_flag_is_found_and_undone_with_the_right_field_first(tmp_path, bottom):
    path = _woven(tmp_path, flagged=False, bottom=bottom)
    order = "bff" if bottom else "tff"
    kept = _index(path)
    assert kept.interlaced_frames == 0
    assert any(w.startswith("combing_unflagged") and order in w for w in kept.warnings)
    index = _index(path, VideoPolicy(interlaced="deinterlace"))
    assert index.treatment.deinterlace == order
    assert _combing(treated_frames(str(path), index, 0, 12)) < 0.8


def test_progressive_pictures_are_not_taken_for_interlaced(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(width=128, height=96))
    index = _index(path, VideoPolicy(interlaced="deinterlace"))
    assert index.treatment.deinterlace == ""
    assert not [w for w in index.warnings if "combing" in w or "telecine" in w]


def test_telecined_film_is_reported():
    detective = FieldDetective()
    film = [np.random.default_rng(n).integers(0, 255, (96, 128, 3)).astype(np.uint8) for n in range(24)]
    film = [np.kron(f[::8, ::8], np.ones((8, 8, 1), np.uint8)) for f in film]
    # 2:3 pulldown: four film frames become five, the fields of the third and fourth come from two.
    tops = [film[4 * (i // 5) + (0, 1, 1, 2, 3)[i % 5]] for i in range(30)]
    bottoms = [film[4 * (i // 5) + (0, 1, 2, 3, 3)[i % 5]] for i in range(30)]
    for i, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        woven = top.copy()
        woven[1::2] = bottom[1::2]
        frame = VideoFrame.from_ndarray(woven, "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        detective.feed(i, frame)
    assert any(w.startswith("telecine_suspected") for w in detective.warnings())


# Transparency


def _transparent(folder, codec, name, pix_fmt="yuva420p"):
    options = {"lossless": "1", "auto-alt-ref": "0"} if codec.startswith("libvpx") else {}
    with av.open(str(folder / name), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        if name.endswith("webm"):
            stream.metadata["alpha_mode"] = "1"
        for i in range(10):
            frame = VideoFrame.from_ndarray(picture(i, 64, 48), "rgb24").reformat(format=pix_fmt)
            _alpha(frame)[:] = _ramp(i)
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return folder / name


def _ramp(i):
    return ((np.arange(48)[:, None] * 5 + np.arange(64)[None] + 9 * i) % 256).astype(np.uint8)


def _alpha(frame):
    return _rows(frame, 3)


@pytest.mark.parametrize(
    ("codec", "name", "settings", "container"),
    [
        ("libvpx-vp9", "a.webm", VP9, "webm"),
        ("libvpx-vp9", "a.webm", FFV1, "mkv"),
        ("ffv1", "a.mkv", VP9, "webm"),
        ("ffv1", "a.mkv", FFV1, "mkv"),
    ],
)
def test_transparency_comes_out_as_it_went_in(tmp_path, codec, name, settings, container):
    path = _transparent(tmp_path, codec, name)
    index, out, _ = _trip(path, VideoPolicy(alpha="keep"), tmp_path / "o", settings)
    assert out.endswith(container)
    assert index.pix_fmt == "yuva420p"
    frames = _decoded(out, alpha=True)
    assert [f.format.name for f in frames] == ["yuva420p"] * 10
    assert all(np.array_equal(_alpha(f), _ramp(i)) for i, f in enumerate(frames))


def test_transparency_of_processed_pictures_is_that_of_their_source(tmp_path):
    path = str(_transparent(tmp_path, "libvpx-vp9", "a.webm"))
    index = _index(path, VideoPolicy(alpha="keep"))
    rgb = 255 - decode_rgb(path, index, range(10))
    encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [10], index, VP9, treated_frames(path, index, 0, 10))
    frames = _decoded(str(tmp_path / "s.mkv"), alpha=True)
    assert all(np.array_equal(_alpha(f), _ramp(i)) for i, f in enumerate(frames))
    larger = rgb.repeat(2, 1).repeat(2, 2)
    encode_rgb_segment(str(tmp_path / "l.mkv"), larger, [10], index, FFV1, treated_frames(path, index, 0, 10))
    scaled = _alpha(_decoded(str(tmp_path / "l.mkv"))[0]).astype(int)
    assert scaled.shape == (96, 128)
    assert np.abs(scaled[10:40:2, 10:80:2] - _ramp(0)[5:20, 5:40]).mean() < 8


def test_transparency_is_left_out_with_a_word_or_refused(tmp_path):
    path = _transparent(tmp_path, "libvpx-vp9", "a.webm")
    index, out, _ = _trip(path, VideoPolicy(alpha="drop"), tmp_path / "o", LOSSLESS)
    assert "alpha_dropped: the transparency of this video is left out" in index.warnings
    assert _decoded(out)[0].format.name == "yuv420p"
    assert _refusal(path, VideoPolicy(alpha="reject")).code == "alpha"
    native = _transparent(tmp_path, "ffv1", "b.mkv")
    assert any(w.startswith("alpha_dropped") for w in _index(native).warnings)


def test_a_codec_without_transparency_refuses_to_keep_it():
    with pytest.raises(SpecError, match="transparency"):
        choose_pix_fmt("libx264", "yuva420p", 64, 48, alpha=True)
    assert choose_pix_fmt("libx264", "yuva420p", 64, 48) == "yuv420p"


# HDR


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_reaches_the_model_as_light_and_comes_back_as_it_was(tmp_path, transfer):
    clip = Clip(codec="libx265", pix_fmt="yuv420p10le", tags=(1, 9, 9, transfer), width=96, height=64)
    path = make_clip(tmp_path / "a.mkv", clip)
    assert _refusal(path, VideoPolicy(hdr="reject")).code == "hdr"
    codes, light = _index(path), _index(path, VideoPolicy(hdr="linear"))
    assert any("without tone mapping" in w for w in codes.warnings)
    assert any("cd/m2" in w for w in light.warnings)
    plain, shown = (decode_rgb(path, index, [0, 5]) for index in (codes, light))
    assert shown.dtype == np.uint16
    assert np.abs(shown.astype(float) - plain).mean() > 2000
    segment = str(tmp_path / "s.mkv")
    # Every sixteenth code is changed: the rest must come back as it was, down to the sample.
    edited = decode_rgb(path, light, range(24))
    edited[:, :4, :4] = 0
    encode_rgb_segment(segment, edited, [24], light, FFV1, treated_frames(path, light, 0, 24))
    for before, after in zip(treated_frames(path, light, 0, 24), _decoded(segment), strict=True):
        a, b = (
            np.frombuffer(f.planes[0], "<u2").reshape(f.height, -1)[:, : f.width] for f in (before, after)
        )
        assert np.array_equal(a[4:], b[4:])
        assert (b[:4, :4] == 64).all()


# Which way up


_QUARTER = (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
_HALF = (-65536, 0, 0, 0, -65536, 0, 64 << 16, 48 << 16, 1 << 30)
_MIRROR = (-65536, 0, 0, 0, 65536, 0, 64 << 16, 0, 1 << 30)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (_QUARTER, lambda stored: np.rot90(stored, -1, (1, 2))),
        (_HALF, lambda stored: np.rot90(stored, 2, (1, 2))),
        (_MIRROR, lambda stored: stored[:, :, ::-1]),
    ],
    ids=["quarter turn", "half turn", "mirror"],
)
def test_the_model_sees_pictures_upright_and_they_are_stored_as_they_were(tmp_path, matrix, expected):
    plain = make_clip(tmp_path / "plain.mp4")
    path = make_clip(tmp_path / "a.mp4", Clip(matrix=matrix))
    index = _index(path)
    rgb = decode_rgb(path, index, range(24))
    assert np.array_equal(rgb, expected(decode_rgb(plain, _index(plain), range(24))))
    assert index.geometry.display_matrix == matrix
    segment = encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [24], index, LOSSLESS)
    assert (segment.width, segment.height) == (64, 48)
    again = encode_rgb_segment(
        str(tmp_path / "t.mkv"), rgb, [24], index, LOSSLESS, treated_frames(path, index, 0, 24)
    )
    assert list(again.frame_hashes) == _hashes(path)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", [_QUARTER, _HALF, _MIRROR], ids=["quarter turn", "half turn", "mirror"])
def test_a_turn_can_be_baked_into_the_pictures(tmp_path, matrix, pix_fmt):
    clip = Clip(matrix=matrix, sar=Fraction(4, 3), pix_fmt=pix_fmt)
    path = make_clip(tmp_path / "a.mp4", clip)
    kept = _index(path)
    index, out, _ = _trip(path, VideoPolicy(rotation="bake"), tmp_path / "o", LOSSLESS)
    assert "rotation_baked: pictures are turned, and the display matrix is gone" in index.warnings
    assert index.geometry.display_matrix is None
    quarter = matrix == _QUARTER
    assert (index.geometry.width, index.geometry.height) == ((48, 64) if quarter else (64, 48))
    assert index.geometry.sample_aspect_ratio == (Fraction(3, 4) if quarter else Fraction(4, 3))
    assert index.pix_fmt == ("yuv444p" if pix_fmt == "yuv422p" else pix_fmt)
    seen, baked = decode_rgb(path, kept, [0, 23]), decode_rgb(out, _index(out), [0, 23])
    scale = 257 if pix_fmt.endswith("10le") else 1
    # Chroma lies on other sites after a turn: the luma is exact, colours are those of a neighbour.
    assert np.abs(seen.astype(int) - baked).mean() < 1.5 * scale


# What the model left alone


def _beyond_rgb(folder):
    """24 frames of any sample values there are, most of which are no RGB colour."""
    dice = np.random.default_rng(3)
    with av.open(str(folder / "wild.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(24):
            frame = VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(dice.integers(0, 256, plane.buffer_size, np.uint8))
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return str(folder / "wild.mkv")


def test_what_the_model_left_alone_keeps_its_own_samples(tmp_path):
    path = _beyond_rgb(tmp_path)
    index = _index(path)
    rgb = decode_rgb(path, index, range(24))
    # Conversion alone changes colours that RGB cannot show.
    through_rgb = encode_rgb_segment(str(tmp_path / "a.mkv"), rgb, [24], index, LOSSLESS)
    kept = encode_rgb_segment(
        str(tmp_path / "b.mkv"), rgb, [24], index, LOSSLESS, treated_frames(path, index, 0, 24)
    )
    assert list(kept.frame_hashes) == _hashes(path)
    assert through_rgb.frame_hashes != kept.frame_hashes
    edited = rgb.copy()
    edited[:, :, :20] = 255 - edited[:, :, :20]
    encode_rgb_segment(
        str(tmp_path / "c.mkv"), edited, [24], index, LOSSLESS, treated_frames(path, index, 0, 24)
    )
    for before, after in zip(_decoded(path), _decoded(str(tmp_path / "c.mkv")), strict=True):
        for plane, reach in ((0, 20), (1, 13), (2, 13)):
            a, b = (_rows(f, plane) for f in (before, after))
            assert np.array_equal(a[:, reach:], b[:, reach:])
            assert not np.array_equal(a[:, : reach // 2], b[:, : reach // 2])


def test_times_increase_whatever_was_rebuilt(tmp_path):
    index = _index(_doubled(tmp_path), VideoPolicy(timestamps="rebuild"))
    assert all(a < b for a, b in pairwise(index.pts))
