"""The rules of the faithful round trip (S1-S48) and of verification (V1-V8), each with its test.

Names are beginnings of test names, without ``test_``; before a colon stands the file of this folder,
and a name without one is below. What needs more than this room (plans, stores, jobs) is tested where
it lives. A test of this file keeps the table true.

| rule | what | test |
|---|---|---|
| S1 | known demuxers, file protocol, content | probe: what_is_not_a_video..., the_content_and_not_the_name |
| S2 | no log levels, every open closed again | rules: all; tests/test_layering |
| S3 | first video stream that is no cover | a_cover_beside_the_film...; probe: the_first_of_several |
| S4 | refusals before decoding | probe: all; an_encrypted_file..., a_header_without... |
| S5 | one decoding thread, damage decodes alike | decoding_never_uses..., a_damaged_clip_decodes_alike... |
| S6 | what the index holds of packets and frames | index: all; burned: the_index_lists_every_frame... |
| S7 | no, repeated or falling timestamps | time_that_runs_backwards...; index: two_frames_at_one_time |
| S8 | edit lists | assemble: frames_hidden_by_an_edit_list..., late.mp4 |
| S9 | times are integers | the_stored_index_has_no_float...; rules: no_time_is_turned_into_a_float |
| S10 | chunks cut inside a long group of pictures | a_clip_with_one_key_is_cut...; tests/pipeline/test_plan |
| S11 | one key: no quadratic decoding | consecutive_reads_of_a_clip_with_one_key... |
| S12 | seek by the key's DTS, one key early | a_read_near_the_end...; burned: any_range_of_ordinals... |
| S13 | leading pictures behind the next key | burned: any_range_of_ordinals... (x265_leading, open) |
| S14 | every read proven, linear fallback | decode: all |
| S15 | tags resolved once, their origin recorded | colour: an_untagged_picture..., tags_of_the_source... |
| S16 | conversion to RGB names everything | colour: yuv_becomes_rgb...; rgb_is_the_same_each_time |
| S17 | round trip of 4:2:0 | chroma_does_not_drift...; policies: what_the_model_left_alone... |
| S18 | round trip of 4:4:4 | four_four_four_comes_back... |
| S19 | transfer and primaries never convert | transfer_and_primaries_are_tags... |
| S20 | tags on the context | encode: tags_go_into_the_stream; assemble: deep.mp4, turned.mp4 |
| S21 | untouched frames keep their planes | encode: a_lossless_segment...; burned: lossless_chunks... |
| S22 | depth is kept | encode: ten_bits_stay_ten_bits, the_pixel_format_is_the_nearest |
| S23 | all nine numbers of the matrix | turned_and_mirrored_pictures_keep_their_matrix |
| S24 | aspect ratio | encode: super_resolution_keeps_the_aspect... |
| S25 | odd sizes, padding | encode: odd_sizes...; policies: pictures_that_change_size... |
| S26 | interlaced, unflagged, telecine | policies: fields_stay_woven..., combing_..., telecined_film... |
| S27 | transparency | transparency_is_kept_or_its_loss_is_said; policies: transparency_comes_out... |
| S28 | static HDR | encode: static_hdr_metadata_is_written... |
| S29 | dynamic and unknown side data | an_unknown_kind_of_side_data...; burned: a_sound_clip_is_warned... |
| S30 | clean frames for the encoder | planes: a_clean_copy... |
| S31 | PQ and HLG are said | index: tags_geometry...; hybrid_log_gamma_is_said |
| S32 | streams, names, marks, chapters | assemble: subtitles_attachments...; forced_and_commentary... |
| S33 | what a container takes | assemble: what_a_container_cannot...; subtitles_of_mp4_become... |
| S34 | key frames without DTS | rules: all; a_key_packet_without_dts... |
| S35 | exact times, audio offset | assemble: all; odd_clocks_meet_exactly... |
| S36 | edit lists and Matroska, ADTS | a_second_video_of_an_edit_listed...; assemble: stream.ts |
| S37 | chapters keep their times | assemble: subtitles_attachments_chapters... |
| S38 | segment clock of its own | encode: every_group_starts... |
| S39 | own DTS | timestamps: all; encode: segments_of_one_or_two_frames |
| S40 | closed groups, an IDR first | every_codec_starts_each_group... |
| S41 | equal headers | quality_does_not_touch_the_headers; assemble: missing_and_foreign |
| S42 | determinism, threads in the spec | encode: encoding_twice...; tests/pipeline/storage/test_keys |
| S43 | no rate control by bits | no_encoder_is_given_a_bit_rate |
| S44 | the last frame's duration | a_long_last_picture_is_held... |
| S45 | one segment open at a time | hundreds_of_segments_need_few_open_files |
| S46 | hvc1 and average rate | assemble: hevc_in_mp4...; the_average_rate_goes_along |
| S47 | local file, verified, manifest last | tests/pipeline/storage/test_publish |
| S48 | remote sources are fetched whole | tests/pipeline/storage/test_source_cache |
| V1 | streams, names, chapters | a_changed_copy_of_the_output_is_found_out |
| V2 | frames and times | assemble: wrong_times...; one_late_frame... |
| V3 | pictures and decode errors | assemble: swapped_segments..., a_damaged_output... |
| V4 | audio bytes and offset | sound_that_moved...; assemble: wrong_times_tags_and_sound |
| V5 | colour tags and HDR | missing_hdr_is_found_out; assemble: wrong_times_tags... |
| V6 | lossless identity is exact | burned: lossless_chunks...; real_chunkings: segments_of_any_size... |
| V7 | quality at segment borders | segment_borders_are_not_visibly_worse... |
| V8 | digest, size, versions | tests/pipeline/storage/test_publish; hostile_files: a_batch_of_all... |
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame

from pipeline.errors import SourceError
from pipeline.plan import plan_video
from pipeline.settings import ConsistencySettings, EncodeSettings, Limits, VideoPolicy
from pipeline.video.assemble import assemble
from pipeline.video.colour import FULL, LIMITED, frame_to_rgb, resolve_colour, rgb_to_frame
from pipeline.video.decode import decode_frames
from pipeline.video.encode import encode_rgb_segment
from pipeline.video.encoders import open_encoder, plan_encoder
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.integers import Hashes, Integers
from pipeline.video.opening import Decoder
from pipeline.video.planes import plane_bytes, plane_rows
from pipeline.video.rgb import decode_rgb
from pipeline.video.side_data import dynamic_side_data, read_first_frame
from pipeline.video.types import Hdr, VideoIndex
from pipeline.video.verify import measure, verify_output
from tests.pipeline.video.burned import BurnedClip, write_burned
from tests.pipeline.video.media import (
    LOSSLESS,
    Clip,
    RoundTrip,
    identity,
    index_of,
    make_clip,
    picture,
    remux,
)

_ROOMS = {"burned": "burned_in_numbers"}
CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
_FORTY = tuple(range(0, 40 * 512, 512))
_MASTERING = ((34000, 50000), (16000, 50000), (13250, 50000), (34500, 50000), (7500, 50000), (3000, 50000),
              (15635, 50000), (16450, 50000), (50, 10000), (10000000, 10000))  # fmt: skip


def _refusal(path: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        build_index(path, "s3://in/x", Limits(), "digest")
    return caught.value


def _fast(codec: str) -> EncodeSettings:
    return EncodeSettings(codec=codec, crf=30, preset="veryfast")


def _job(folder: Path, clip: Clip, settings: EncodeSettings = LOSSLESS, name: str = "a.mp4") -> _Job:
    return _Job(make_clip(folder / name, clip), folder, settings)


class _Job:
    """A finished identity run, ready to be verified against what it was made from."""

    def __init__(self, path: str, folder: Path, settings: EncodeSettings = LOSSLESS) -> None:
        self.path, self.index = path, index_of(path)
        self.trip: RoundTrip = identity(path, self.index, folder / "work", settings)

    def problems(self, output: str | None = None, index: VideoIndex | None = None) -> tuple[str, ...]:
        trip = self.trip
        return verify_output(
            output or trip.output, self.path, index or self.index, trip.segments, trip.assembly
        )[1]


# The table above


def _table() -> dict[str, list[tuple[str, str]]]:
    """Per rule the tests named for it, as (file, beginning of the name)."""
    table: dict[str, list[tuple[str, str]]] = {}
    for rule, cell in re.findall(r"^\| ([SV]\d+) \|.*\| (.*) \|$", __doc__ or "", re.MULTILINE):
        assert rule not in table
        table[rule] = []
        for group in re.sub(r" \(.*?\)", "", cell).split("; "):
            room, _, names = group.rpartition(": ")
            table[rule] += [(_ROOMS.get(room, room), name.removesuffix("...")) for name in names.split(", ")]
    return table


def test_the_table_has_every_rule_and_the_tests_it_names_exist():
    rules = [f"S{n}" for n in range(1, 49)] + [f"V{n}" for n in range(1, 9)]
    table = _table()
    assert sorted(table) == sorted(rules)
    here = Path(__file__).parent
    root = here.parents[2]
    for rule, named in table.items():
        assert named, rule
        for room, name in named:
            if name.startswith("tests/"):
                assert (root / name).with_suffix(".py").is_file(), f"{rule}: {name}"
                continue
            text = (here / f"test_{room or 'every_rule'}.py").read_text()
            assert name == "all" or f"def test_{name}" in text or f'("{name}", Clip(' in text, (
                f"{rule}: {name}"
            )


# Opening and refusing


def test_a_cover_beside_the_film_is_not_counted_as_a_second_film(tmp_path):
    plain = make_clip(tmp_path / "plain.mp4", Clip(pts=_FORTY))
    path = str(tmp_path / "covered.mp4")
    with av.open(plain) as source, av.open(path, "w") as out:
        film = out.add_stream_from_template(source.streams.video[0], opaque=True)
        art = out.add_stream("png", rate=25)
        art.width, art.height, art.pix_fmt = 32, 32, "rgb24"
        art.disposition = Disposition.attached_pic
        out.mux(art.encode(VideoFrame.from_ndarray(picture(0, 32, 32), "rgb24")))
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = film
                out.mux(packet)
    index = index_of(path)
    assert [s.attached_picture for s in index.streams] == [False, True]
    assert (index.stream, index.frames, index.geometry.width) == (0, 40, 64)
    assert index.warnings == ()


def test_an_encrypted_file_is_refused_though_its_header_is_plain(tmp_path):
    keys = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00112233445566778899aabbccddeeff",
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}  # fmt: skip
    plain = make_clip(tmp_path / "a.mp4", Clip(options={"bf": "0"}))
    assert _refusal(remux(plain, tmp_path / "locked.mp4", options=keys)).code == "encrypted"


def test_a_header_without_samples_has_no_frames(tmp_path):
    moving = remux(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4",
                   options={"movflags": "frag_keyframe+empty_moov"})  # fmt: skip
    data = Path(moving).read_bytes()
    (tmp_path / "x.mp4").write_bytes(data[: data.index(b"moof") - 4])
    assert _refusal(str(tmp_path / "x.mp4")).code == "no_frames"


# Index


def test_decoding_never_uses_more_than_one_thread(tmp_path):
    with av.open(make_clip(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        Decoder(stream)
        next(container.decode(stream))
        assert str(stream.thread_type).endswith("NONE")
        assert stream.codec_context.thread_count == 1


def test_a_damaged_clip_decodes_alike_each_time_and_its_damage_is_counted(tmp_path):
    # The same bytes each time, so that the same ones are damaged.
    path = make_clip(tmp_path / "a.mkv", Clip(pts=_FORTY, gop=20, muxer={"fflags": "+bitexact"}))
    data = bytearray(Path(path).read_bytes())
    dice = np.random.default_rng(4)
    for at in dice.integers(len(data) // 2, len(data) * 3 // 4, 30):
        data[at] ^= 0x5A
    (tmp_path / "x.mkv").write_bytes(data)
    part = VideoPolicy(partial=True, timestamps="rebuild")
    first, *again = (build_index(str(tmp_path / "x.mkv"), "x", Limits(), "digest", part) for _ in range(4))
    assert again == [first] * 3
    assert any(w.startswith(("decode_errors=", "corrupt_frames=")) for w in first.warnings)
    assert first.frame_hashes != index_of(path).frame_hashes


def test_time_that_runs_backwards_is_refused_by_ordinal(tmp_path):
    parts = [
        make_clip(
            tmp_path / f"{n}.ts", Clip(pts=range(a, a + 12), time_base=Fraction(1, 25), options={"bf": "0"})
        )
        for n, a in enumerate((100, 90))
    ]
    (tmp_path / "x.ts").write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    refusal = _refusal(str(tmp_path / "x.ts"))
    assert refusal.code == "pts_not_monotonic"
    assert refusal.facts["frame"] == 12


def test_the_stored_index_has_no_float_and_comes_back_equal(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pts=(0, 500, 1777, 1800, 4000), audio="aac")))
    stored = index_from_bytes(index_to_bytes(index))
    assert stored == index
    exact = {int, str, bool, Fraction, type(None), Integers, Hashes, bytes}
    assert {type(value) for value in _leaves(stored)} <= exact


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _leaves(getattr(value, name))
    else:
        yield value


# Plan and random access


@pytest.fixture(scope="module")
def one_key(tmp_path_factory):
    """192 frames behind one key, with their index."""
    clip = BurnedClip("one.mp4", "libx264", frames=192, gop=9999,
                      options={"preset": "veryfast", "x264-params": "keyint=9999:scenecut=0"})  # fmt: skip
    path = write_burned(tmp_path_factory.mktemp("one"), clip)
    index = index_of(path)
    assert len(index.key_pts) == 1
    return path, index


@pytest.fixture
def decoded(monkeypatch):
    """Counts the packets that random access gives to decoders."""
    packets: list[int] = []
    real = Decoder.decode

    def counting(self: Decoder, packet: Any, count: Any) -> Any:
        packets.append(packet.size)
        return real(self, packet, count)

    monkeypatch.setattr(Decoder, "decode", counting)
    return packets


def test_a_clip_with_one_key_is_cut_inside_its_group_of_pictures(one_key):
    consistency = ConsistencySettings(knots="even", knot_every=12, knots_per_chunk=2)
    chunks = plan_video(replace(one_key[1], cuts=(0,)), consistency, 1).chunks
    assert [c.first for c in chunks] == list(range(0, 191, 24))
    assert max(c.last - c.first for c in chunks) <= 25


def test_consecutive_reads_of_a_clip_with_one_key_decode_it_about_once(one_key, decoded):
    path, index = one_key
    for a in range(0, 192, 24):
        assert len(list(decode_frames(path, index, a, a + 24))) == 24
    assert len(decoded) < 2 * 192


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_a_read_near_the_end_decodes_a_few_groups_and_not_the_whole_file(tmp_path, decoded, name):
    path = make_clip(tmp_path / name, Clip(pts=range(0, 160 * 512, 512), gop=8))
    index = index_of(path)
    decoded.clear()
    assert len(list(decode_frames(path, index, 150, 152))) == 2
    # The group of the frame, one before it, and what the decoder holds back.
    assert 10 <= len(decoded) <= 34


# Colour


def _noise(pix_fmt: str, luma: tuple[int, int], chroma: tuple[int, int], smooth: int = 1) -> VideoFrame:
    """Random 8-bit planes within these codes, each value repeated ``smooth`` times both ways."""
    frame, rng = VideoFrame(64, 48, pix_fmt), np.random.default_rng(7)
    for i, plane in enumerate(frame.planes):
        low, high = luma if i == 0 else chroma
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        few = rng.integers(low, high, (-(-plane.height // smooth), -(-plane.width // smooth)))
        rows[:, : plane.width] = few.repeat(smooth, 0).repeat(smooth, 1)[: plane.height, : plane.width]
    return frame


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    return [np.array(rows, dtype=np.float64) for rows in plane_rows(frame)]


def test_rgb_is_the_same_each_time():
    frame = _noise("yuv420p", (16, 236), (60, 200))
    colour = resolve_colour((LIMITED, 1, 1, 1), "yuv420p", 64, 48)
    assert len({frame_to_rgb(frame, colour, 8).tobytes() for _ in range(5)}) == 1


@pytest.mark.parametrize("tag_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
def test_chroma_does_not_drift_on_ten_ways_through_rgb(pix_fmt, matrix, tag_range):
    first = frame = _noise(pix_fmt, (90, 170), (110, 146), smooth=8)
    colour = resolve_colour((tag_range, matrix, 2, 2), pix_fmt, 64, 48)
    for _ in range(10):
        frame = rgb_to_frame(frame_to_rgb(frame, colour, 8), colour, pix_fmt)
    drift = [float(np.mean(b - a)) for a, b in zip(_planes(first), _planes(frame), strict=True)]
    assert max(map(abs, drift)) < 0.2


@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_four_four_four_comes_back_from_rgb_exactly_but_for_roundings(matrix):
    frame = _noise("yuv444p", (90, 170), (110, 146))
    colour = resolve_colour((LIMITED, matrix, 2, 2), "yuv444p", 64, 48)
    again = rgb_to_frame(frame_to_rgb(frame, colour, 8), colour, "yuv444p")
    wrong = [a != b for a, b in zip(_planes(frame), _planes(again), strict=True)]
    assert np.mean(wrong) < 0.001
    assert max(np.abs(a - b).max() for a, b in zip(_planes(frame), _planes(again), strict=True)) <= 1


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (1, 13), (9, 18), (5, 4)])
def test_transfer_and_primaries_are_tags_and_change_no_pixel(pix_fmt, primaries, transfer):
    rgb = np.random.default_rng(2).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    plain, tagged = (
        resolve_colour((LIMITED, 1, p, t), pix_fmt, 64, 48) for p, t in ((2, 2), (primaries, transfer))
    )
    frame, same = rgb_to_frame(rgb, plain, pix_fmt), rgb_to_frame(rgb, tagged, pix_fmt)
    assert plane_bytes(frame) == plane_bytes(same)
    back, again = frame_to_rgb(frame, plain, 8), frame_to_rgb(frame, tagged, 8)
    np.testing.assert_array_equal(back, again)


def test_hybrid_log_gamma_is_said(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pix_fmt="yuv420p10le", tags=(1, 9, 9, 18))))
    assert [w.split(":")[0] for w in index.warnings] == ["hlg_transfer"]


# Geometry


_ONE = 65536
_MATRICES = {
    "quarter": (0, _ONE, 0, -_ONE, 0, 0, 48 << 16, 0, 1 << 30),
    "half": (-_ONE, 0, 0, 0, -_ONE, 0, 64 << 16, 48 << 16, 1 << 30),
    "mirrored": (-_ONE, 0, 0, 0, _ONE, 0, 64 << 16, 0, 1 << 30),
    "turned and mirrored": (0, _ONE, 0, _ONE, 0, 0, 0, 0, 1 << 30),
    "scaled": (2 * _ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30),
    "aslant": (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30),
}


@pytest.mark.parametrize("name", sorted(_MATRICES))
def test_turned_and_mirrored_pictures_keep_their_matrix(tmp_path, name):
    job = _job(tmp_path, Clip(pts=_FORTY[:12], matrix=_MATRICES[name]))
    assert job.index.geometry.display_matrix == _MATRICES[name]
    assert job.problems() == ()
    assert index_of(job.trip.output).geometry == job.index.geometry


@pytest.mark.parametrize(
    "name", ["quarter", "mirrored", "turned and mirrored", "scaled", "aslant"]
)
def test_matroska_keeps_a_matrix_or_its_loss_is_said(tmp_path, name):
    job = _job(tmp_path, Clip(pts=_FORTY[:12], matrix=_MATRICES[name]), replace(LOSSLESS, container="mkv"))
    kept = index_of(job.trip.output).geometry.display_matrix
    linear = None if kept is None else (*kept[:6], kept[8])
    wanted = (*_MATRICES[name][:6], _MATRICES[name][8])
    said = any(w.startswith("display_matrix_dropped") for w in job.trip.assembly.warnings)
    assert said is (linear != wanted)


def test_transparency_is_kept_or_its_loss_is_said(tmp_path):
    clip = Clip(codec="libvpx-vp9", pix_fmt="yuva420p", time_base=Fraction(1, 1000), pts=range(0, 400, 40),
                options={"auto-alt-ref": "0", "cpu-used": "8", "deadline": "realtime"})  # fmt: skip
    index = index_of(make_clip(tmp_path / "a.webm", clip))
    dropped = any(w.startswith("alpha_dropped") for w in index.warnings)
    assert dropped is not index.pix_fmt.startswith("yuva")


def test_transparency_of_an_encoder_without_it_is_said_to_be_lost(tmp_path):
    clip = Clip(codec="ffv1", pix_fmt="yuva444p", time_base=Fraction(1, 1000), pts=range(0, 400, 40))
    job = _job(tmp_path, clip, name="a.mkv")
    said = [*job.index.warnings, *job.trip.assembly.warnings]
    assert any(w.startswith(("pixel_format_changed: yuva444p", "alpha_dropped")) for w in said)


def test_an_unknown_kind_of_side_data_does_not_stop_the_reading_of_a_file():
    class Future:
        @property
        def side_data(self) -> Any:
            raise ValueError("29 is not a valid SideData type")

    facts = read_first_frame(Future())
    assert (facts.display_matrix, facts.hdr, [*dynamic_side_data(Future())]) == (None, None, [])


# Other streams and times


def _two_languages(folder: Path) -> str:
    """One film, its sound twice, the second as a German commentary that is not the default."""
    plain = make_clip(folder / "plain.mp4", Clip(pts=_FORTY, audio="aac"))
    path = str(folder / "two.mkv")
    with av.open(plain) as source, av.open(path, "w") as out:
        film = out.add_stream_from_template(source.streams.video[0], opaque=True)
        first, second = (out.add_stream_from_template(source.streams.audio[0], opaque=True) for _ in "ab")
        first.metadata["language"], second.metadata["language"] = "eng", "ger"
        first.disposition = Disposition.default
        second.disposition = Disposition.comment | Disposition.forced
        for packet in source.demux():
            if packet.size == 0:
                continue
            if packet.stream.type == "video":
                packet.stream = film
                out.mux(packet)
                continue
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.duration, copy.stream, packet.stream = packet.duration, second, first
            out.mux(packet)
            out.mux(copy)
    return path


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_forced_and_commentary_marks_and_languages_go_along(tmp_path, container):
    job = _Job(_two_languages(tmp_path), tmp_path, replace(LOSSLESS, container=container))
    assert job.problems() == ()
    with av.open(job.trip.output) as out:
        one, two = out.streams.audio
        assert (one.language, two.language) == ("eng", "ger")
        assert one.disposition & Disposition.default
        assert two.disposition & Disposition.comment
        assert two.disposition & Disposition.forced


def _with_timed_text(folder: Path) -> str:
    plain = make_clip(folder / "plain.mp4", Clip(pts=_FORTY))
    path = str(folder / "text.mp4")
    with av.open(plain) as source, av.open(path, "w") as out:
        film = out.add_stream_from_template(source.streams.video[0], opaque=True)
        text = out.add_mux_stream("mov_text")
        text.metadata["language"] = "fre"
        text.time_base = Fraction(1, 1000)
        for packet in source.demux():
            if packet.size:
                packet.stream = film
                out.mux(packet)
        for start, line in ((100, "Bonjour"), (900, "Adieu")):
            said = av.Packet(len(line).to_bytes(2, "big") + line.encode())
            said.stream, said.time_base, said.duration = text, Fraction(1, 1000), 400
            said.pts = said.dts = start
            out.mux(said)
    return path


def test_subtitles_of_mp4_become_text_in_matroska_with_the_same_times(tmp_path):
    job = _Job(_with_timed_text(tmp_path), tmp_path, replace(LOSSLESS, container="mkv"))
    assert job.problems() == ()
    with av.open(job.trip.output) as out:
        (text,) = out.streams.subtitles
        assert (text.codec_context.name, text.language) in (("srt", "fre"), ("subrip", "fre"))
        lines = [(p.pts * Fraction(p.time_base), bytes(p)) for p in out.demux(text) if p.size]
    assert lines == [(Fraction(1, 10), b"Bonjour"), (Fraction(9, 10), b"Adieu")]


def test_a_key_packet_without_dts_is_not_lost(tmp_path):
    path = make_clip(tmp_path / "a.mkv", Clip(pts=range(0, 40 * 41, 41), time_base=Fraction(1, 1000), gop=8))
    with av.open(path) as container:
        assert any(p.is_keyframe and p.dts is None for p in container.demux(video=0) if p.size)
    job = _Job(path, tmp_path)
    assert job.index.frames == 40
    assert job.index.key_dts[0] == job.index.key_pts[0] == 0
    assert job.problems() == ()


def test_sound_that_mp4_takes_from_mov_only_does_not_cost_the_whole_video(tmp_path):
    clip = Clip(codec="mpeg4", pts=range(25), time_base=Fraction(1, 25), audio="pcm_s16le")
    job = _Job(make_clip(tmp_path / "a.avi", clip), tmp_path, replace(LOSSLESS, container="mp4"))
    assert job.problems() == ()
    assert len(job.trip.assembly.copied) + len(job.trip.assembly.dropped_streams) == 1


@pytest.mark.parametrize(
    ("start", "step", "base", "rate"),
    [(1001, 1001, 30_000, 44_100), (7, 1001, 24_000, 48_000), (90_001, 3003, 90_000, 22_050)],
)
def test_odd_clocks_meet_exactly_in_mp4(tmp_path, start, step, base, rate):
    clip = Clip(pts=range(start, start + 30 * step, step), time_base=Fraction(1, base), audio="aac",
                audio_rate=rate, muxer={"movie_timescale": str(base)})  # fmt: skip
    job = _job(tmp_path, clip)
    assert job.problems() == ()
    assert job.index.pts[0] * job.index.time_base == Fraction(start, base)
    assert measure(job.trip.output).pts == job.index.pts
    assert _first_sound(job.trip.output) == _first_sound(job.path)


def _first_sound(path: str) -> Fraction:
    with av.open(path) as container:
        packet = next(p for p in container.demux(audio=0) if p.size)
        return packet.pts * Fraction(packet.time_base)


def _two_films(path: Path, times: range, options: dict[str, str]) -> str:
    with av.open(str(path), "w") as out:
        films = [out.add_stream("libx264", rate=25, options=options) for _ in "ab"]
        for film in films:
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
            film.codec_context.time_base = Fraction(1, 25)
        for i, pts in enumerate(times):
            for film in films:
                frame = VideoFrame.from_ndarray(picture(i, 64, 48), "rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = pts, Fraction(1, 25)
                out.mux(film.encode(frame))
        for film in films:
            out.mux(film.encode(None))
    return str(path)


def test_a_second_video_of_an_edit_listed_file_does_not_go_into_matroska(tmp_path):
    path = _two_films(tmp_path / "two.mp4", range(-4, 8), {"preset": "ultrafast"})
    job = _Job(path, tmp_path, replace(LOSSLESS, container="mkv"))
    assert job.index.frames == 8
    assert job.problems() == ()
    assert [d.split(":")[0] for d in job.trip.assembly.dropped_streams] == ["stream 1 video h264"]
    assert len(measure(job.trip.output).pts) == 8


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_second_video_with_b_frames_is_copied_whole_out_of_matroska(tmp_path, container):
    path = _two_films(tmp_path / "two.mkv", range(24), {"preset": "veryfast"})
    with av.open(path) as source:
        times = [(p.pts, p.dts) for p in source.demux(source.streams[1]) if p.size]
    assert times[0][1] is None
    job = _Job(path, tmp_path, replace(LOSSLESS, container=container))
    assert job.problems() == ()
    assert measure(job.trip.output, 1).frames_md5 == measure(path, 1).frames_md5
    assert [t * measure(job.trip.output, 1).time_base for t in measure(job.trip.output, 1).pts] == [
        Fraction(i, 25) for i in range(24)
    ]


# Segments


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_starts_each_group_with_a_key_that_nothing_precedes(tmp_path, codec):
    path = make_clip(tmp_path / "a.mp4")
    index = index_of(path)
    rgb = decode_rgb(path, index, range(16))
    segment = encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [5, 7, 4], index, _fast(codec))
    with av.open(str(tmp_path / "s.mkv")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    assert set(keys) >= {0, 5, 12}
    assert all(p.pts > packets[k].pts for k in (0, 5, 12) for p in packets[k + 1 :])
    # A group cut out of the middle decodes alone, to the same pictures.
    assert _decode_alone(tmp_path / "s.mkv", packets[5:12]) == segment.frame_hashes[5:12]


def _decode_alone(segment: Path, packets: list[Any]) -> tuple[str, ...]:
    alone = str(segment.with_name("alone.mkv"))
    with av.open(str(segment)) as source, av.open(alone, "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in packets:
            packet.stream = stream
            out.mux(packet)
    return measure(alone).frame_hashes


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_quality_does_not_touch_the_headers(tmp_path, codec):
    path = make_clip(tmp_path / "a.mp4")
    index = index_of(path)
    rgb = decode_rgb(path, index, range(8))
    made = [
        encode_rgb_segment(str(tmp_path / "s.mkv"), rgb, [n, 8 - n], index, replace(_fast(codec), crf=crf))
        for n, crf in ((1, 18), (5, 34))
    ]
    assert made[0].extradata_md5 == made[1].extradata_md5
    assert made[0].size > made[1].size


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_no_encoder_is_given_a_bit_rate(tmp_path, codec):
    index = index_of(make_clip(tmp_path / "a.mp4"))
    plan = plan_encoder(index, _fast(codec), 64, 48)
    assert dict(plan.options)["crf"] == "30"
    assert not {"b", "maxrate", "bufsize", "b:v"} & set(dict(plan.options))
    assert not open_encoder(plan).bit_rate


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_long_last_picture_is_held_as_long_in_the_output(tmp_path, container):
    plain = make_clip(tmp_path / "a.mkv", Clip(pts=range(0, 480, 40), time_base=Fraction(1, 1000)))
    path = remux(plain, tmp_path / "held.mkv", durations=lambda pts: 5120 if pts == 440 else 40)
    index = index_of(path)
    assert index.durations[-1] * index.time_base == Fraction(512, 100)
    trip = identity(path, index, tmp_path / "work", replace(LOSSLESS, container=container))
    again = index_of(trip.output)
    assert again.durations[-1] * again.time_base == Fraction(512, 100)


@contextmanager
def _few_open_files(spare: int) -> Iterator[None]:
    """Only ``spare`` more files may be open at once than now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(p.name) for p in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_hundreds_of_segments_need_few_open_files(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 120 * 512, 512), width=32, height=32))
    index = index_of(path)
    trip = identity(path, index, tmp_path / "work", LOSSLESS, chunk=1, gop=1)
    out = str(tmp_path / "o.mp4")
    with _few_open_files(16):
        assembly = assemble(path, index, trip.segment_paths, trip.segments, out, "mp4", LOSSLESS)
    assert len(trip.segments) == 120
    assert verify_output(out, path, index, trip.segments, assembly)[1] == ()


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("step", [1001, 1250])
def test_the_average_rate_goes_along(tmp_path, codec, step, container):
    # The source says its rate in its header, as real files do.
    plain = make_clip(tmp_path / "a.mp4", Clip(pts=range(0, 24 * step, step), time_base=Fraction(1, 30_000)))
    path = remux(plain, tmp_path / "b.mp4", durations=lambda pts: step)
    job = _Job(path, tmp_path, replace(_fast(codec), container=container))
    assert job.problems() == ()
    assert job.index.average_rate == Fraction(30_000, step)
    with av.open(job.trip.output) as out:
        assert out.streams.video[0].average_rate == Fraction(30_000, step)


# Verification


def _rich(folder: Path) -> str:
    """Video, sound, subtitles, an attachment, two chapters and a title."""
    plain = make_clip(folder / "plain.mp4", Clip(pts=_FORTY, audio="aac"))
    path = str(folder / "rich.mkv")
    base = Fraction(1, 1000)
    with av.open(plain) as source, av.open(path, "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        copies[1].metadata["language"] = "ger"
        text = out.add_mux_stream("subrip")
        text.metadata.update({"language": "fre", "title": "Signs"})
        out.add_attachment("x.ttf", "application/x-truetype-font", b"font bytes")
        out.metadata["title"] = "A film"
        out.set_chapters(
            [
                {
                    "id": i + 1,
                    "start": 800 * i,
                    "end": 800 * (i + 1),
                    "time_base": base,
                    "metadata": {"title": t},
                }
                for i, t in enumerate(("One", "Two"))
            ]
        )
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
        line = av.Packet(b"Hello")
        line.stream, line.time_base, line.duration = text, base, 400
        line.pts = line.dts = 100
        out.mux(line)
    return path


def _copy(source: Any, out: Any, change: Callable[[Any, Any], None], attachments: bool = True) -> None:
    """Copy a Matroska file stream by stream; ``change`` may spoil the copy before its header is written."""
    copies: dict[int, Any] = {}
    for stream in source.streams:
        if stream.type == "attachment":
            if attachments:
                out.add_attachment(
                    stream.metadata["filename"], stream.metadata["mimetype"], bytes(stream.data)
                )
            continue
        copies[stream.index] = out.add_stream_from_template(stream, opaque=True)
        copies[stream.index].metadata.update(stream.metadata)
        copies[stream.index].disposition = stream.disposition
    out.metadata.update(source.metadata)
    out.set_chapters(source.chapters())
    change(out, copies)
    for packet in source.demux([source.streams[i] for i in copies]):
        if packet.size:
            packet.stream = copies[packet.stream_index]
            out.mux(packet)


def _set_chapters(out: Any, _: Any) -> None:
    out.set_chapters([])


def _set_language(_: Any, copies: Any) -> None:
    copies[1].metadata["language"] = "eng"


def _set_disposition(_: Any, copies: Any) -> None:
    copies[1].disposition = Disposition.comment


def _set_title(out: Any, _: Any) -> None:
    out.metadata["title"] = "Another film"


def _set_track_title(_: Any, copies: Any) -> None:
    copies[2].metadata["title"] = "Songs"


def _set_matrix(_: Any, copies: Any) -> None:
    copies[0].set_display_matrix((0, _ONE, 0, -_ONE, 0, 0, 0, 0, 1 << 30))


def _nothing(_: Any, __: Any) -> None:
    return None


@pytest.fixture(scope="module")
def rich_job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    job = _Job(_rich(folder), folder)
    assert job.problems() == ()
    return job


def _spoiled(
    job: _Job, folder: Path, change: Callable[[Any, Any], None], attachments: bool
) -> tuple[str, ...]:
    path = str(folder / "spoiled.mkv")
    with av.open(job.trip.output) as source, av.open(path, "w") as out:
        _copy(source, out, change, attachments)
    return job.problems(path)


def test_an_honest_copy_of_the_output_passes(rich_job, tmp_path):
    assert _spoiled(rich_job, tmp_path, _nothing, attachments=True) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param(_set_chapters, "chapters", id="chapters"),
        pytest.param(_set_language, "language", id="language"),
        pytest.param(_set_disposition, "disposition", id="disposition"),
        pytest.param(_set_matrix, "matrix", id="matrix"),
        pytest.param(_set_title, "title", id="title"),
        pytest.param(_set_track_title, "title", id="track title"),
        pytest.param(None, "attachment", id="attachment"),
    ],
)
def test_a_changed_copy_of_the_output_is_found_out(rich_job, tmp_path, change, word):
    problems = _spoiled(rich_job, tmp_path, change or _nothing, attachments=change is not None)
    assert any(word in problem for problem in problems)


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_another_aspect_ratio_than_planned_is_found_out(tmp_path, container):
    job = _job(tmp_path, Clip(sar=Fraction(16, 11)), replace(LOSSLESS, container=container))
    assert job.problems() == ()
    planned = replace(job.index, geometry=replace(job.index.geometry, sample_aspect_ratio=Fraction(12, 11)))
    assert any("aspect" in problem for problem in job.problems(index=planned))


def test_a_matrix_that_mp4_lost_is_found_out(tmp_path):
    job = _job(tmp_path, Clip(pts=_FORTY[:12]))
    planned = replace(job.index, geometry=replace(job.index.geometry, display_matrix=_MATRICES["quarter"]))
    assert any("matrix" in problem for problem in job.problems(index=planned))


@pytest.mark.parametrize(
    "ticks",
    [
        pytest.param(26, id="2.03 ms"),
        pytest.param(11, id="0.86 ms"),
    ],
)
def test_one_late_frame_is_found_out_even_in_matroska(tmp_path, ticks):
    job = _job(tmp_path, Clip(pts=_FORTY), replace(LOSSLESS, container="mkv"))
    assert job.problems() == ()
    late = list(job.index.pts)
    late[17] += ticks  # of 1/12800 s
    assert any("frame times differ" in p for p in job.problems(index=replace(job.index, pts=tuple(late))))


def test_sound_that_moved_by_half_a_millisecond_is_found_out(tmp_path):
    job = _job(tmp_path, Clip(pts=_FORTY, audio="aac"))
    moved = str(tmp_path / "moved.mp4")
    with av.open(job.trip.output) as source, av.open(moved, "w", options={"movie_timescale": "96000"}) as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                sound = packet.stream.type == "audio"
                packet.stream = copies[packet.stream_index]
                packet.pts, packet.dts = (t + 24 * sound for t in (packet.pts, packet.dts))
                out.mux(packet)
    assert any("moved 0.5" in problem for problem in job.problems(moved))


def test_missing_hdr_is_found_out(tmp_path):
    job = _job(tmp_path, Clip(pts=_FORTY[:12], pix_fmt="yuv420p10le", tags=(1, 9, 9, 16)))
    assert job.problems() == ()
    promised = replace(job.index, hdr=Hdr(_MASTERING, (1000, 400)))
    assert job.problems(index=promised) == ("static HDR metadata differs from the source",)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_segment_borders_are_not_visibly_worse_than_their_neighbours(tmp_path, codec):
    clip = Clip(pts=range(0, 48 * 512, 512), width=160, height=96, options={"crf": "1"})
    job = _job(tmp_path, clip, EncodeSettings(codec=codec, crf=24, preset="veryfast"))
    with av.open(job.path) as source, av.open(job.trip.output) as out:
        pairs = zip(source.decode(video=0), out.decode(video=0), strict=True)
        quality = [_psnr(_planes(a)[0], _planes(b)[0]) for a, b in pairs]
    assert min(quality) > 34
    assert np.mean(quality) > 36
    # The only border: segments of two groups of twelve frames.
    before, after = quality[23], quality[24]
    assert len(job.trip.segments) == 2
    assert abs(after - before) < 4
    assert before > np.mean(quality[12:23]) - 3


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9)))
