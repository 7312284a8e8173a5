from __future__ import annotations

import os
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from pipeline.errors import ChunkError
from pipeline.settings import EncodeSettings
from pipeline.video.assemble import assemble
from pipeline.video.encode import encode_rgb_segment
from pipeline.video.rgb import decode_rgb
from pipeline.video.verify import measure, verify_file, verify_output
from tests.pipeline.video.media import LOSSLESS, LOSSY, Clip, all_hashes, identity, index_of, make_clip

_LONG = tuple(range(0, 40 * 512, 512))
_TURNED = (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)


def _round_trip(tmp_path: Path, name: str, clip: Clip, settings: EncodeSettings = LOSSLESS, **grid):
    path = make_clip(tmp_path / name, clip)
    index = index_of(path)
    trip = identity(path, index, tmp_path / "work", settings, **grid)
    measured, problems = verify_output(trip.output, path, index, trip.segments, trip.assembly)
    return path, index, trip, measured, problems


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("plain.mp4", Clip(pts=_LONG, audio="aac")),
        ("variable.mp4", Clip(pts=tuple(7 * i * i + i for i in range(40)), time_base=Fraction(1, 90_000))),
        ("hold.mp4", Clip(pts=(0, 180_180, 183_180, 675_000), time_base=Fraction(1, 90_000))),
        ("late.mp4", Clip(pts=range(15_360, 35_840, 512), audio="aac")),
        ("turned.mp4", Clip(pts=_LONG, matrix=_TURNED, sar=Fraction(16, 11), tags=(2, 1, 1, 1))),
        ("ntsc.mkv", Clip(pts=tuple(i * 1001 // 24 for i in range(40)), time_base=Fraction(1, 1000))),
        ("stream.ts", Clip(pts=_LONG, audio="aac", audio_rate=44_100)),
        ("web.webm", Clip(pts=tuple(range(0, 800, 40)), time_base=Fraction(1, 1000), codec="libvpx-vp9",
                          options={"cpu-used": "8", "deadline": "realtime"}, audio="libopus")),
        ("deep.mp4", Clip(pts=_LONG, pix_fmt="yuv420p10le", tags=(1, 9, 9, 16))),
        ("ntsc.avi", Clip(pts=tuple(range(30)), time_base=Fraction(1001, 30_000), codec="mpeg4")),
        ("old.avi", Clip(pts=tuple(range(30)), time_base=Fraction(1, 25), codec="mpeg4", audio="libmp3lame")),
        ("one.mp4", Clip(pts=(0,))),
    ],
)  # fmt: skip
def test_the_identity_job_keeps_pictures_times_and_sound(tmp_path, name, clip):
    path, index, _, measured, problems = _round_trip(tmp_path, name, clip)
    assert problems == ()
    assert measured.frames == index.frames
    assert measured.frames_md5 == measure(path).frames_md5
    assert [p * measured.time_base for p in measured.pts] == [p * index.time_base for p in index.pts]


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"])
def test_every_codec_passes_verification(tmp_path, codec):
    settings = EncodeSettings(codec=codec, crf=30, preset="veryfast")
    _, _, trip, _, problems = _round_trip(
        tmp_path, "a.mp4", Clip(pts=_LONG[:20], audio="aac"), settings, gop=7
    )
    assert problems == ()
    assert len(trip.assembly.copied) == 1


@pytest.mark.parametrize("container", ["mkv", "mov"])
def test_a_wished_container_is_filled_as_well(tmp_path, container):
    settings = replace(LOSSLESS, container=container)
    _, _, trip, _, problems = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG, audio="aac"), settings)
    assert problems == ()
    assert trip.output.endswith(container)


def test_times_before_zero_are_shifted_for_all_streams_alike(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(pts=_LONG, audio="aac"))
    index = index_of(path)
    early = replace(index, pts=tuple(p - 2048 for p in index.pts))
    trip = identity(path, index, tmp_path / "work", LOSSLESS)
    assembly = assemble(
        path, early, trip.segment_paths, trip.segments, str(tmp_path / "o.mp4"), "mp4", LOSSLESS
    )
    assert assembly.shift == Fraction(2048, 12_800)
    assert assembly.warnings[0].startswith("times_shifted")
    assert measure(str(tmp_path / "o.mp4")).pts == index.pts


def test_frames_hidden_by_an_edit_list_stay_hidden(tmp_path):
    clip = Clip(pts=range(-10 * 512, 14 * 512, 512), audio="aac")
    path, index, _, measured, problems = _round_trip(tmp_path, "a.mp4", clip)
    assert problems == ()
    assert index.pts == tuple(range(0, 14 * 512, 512))
    assert measured.frames_md5 == measure(path).frames_md5


def test_a_stream_without_packets_is_dropped_and_the_others_keep_their_names(tmp_path):
    path = _with_silent_track(tmp_path)
    index = index_of(path)
    assert [s.kind for s in index.streams] == ["audio", "video", "audio"]
    trip = identity(path, index, tmp_path / "work", replace(LOSSLESS, container="mp4"))
    assert trip.assembly.dropped_streams == ("stream 0 audio: it has no packets",)
    assert (trip.assembly.stream, trip.assembly.copied) == (0, ((2, 1),))
    assert verify_output(trip.output, path, index, trip.segments, trip.assembly)[1] == ()


def test_a_video_four_times_as_large_keeps_turn_aspect_and_times(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Clip(pts=_LONG[:6], matrix=_TURNED, sar=Fraction(4, 3), audio="aac"))
    index = index_of(path)
    large = decode_rgb(path, index, range(6)).repeat(4, 1).repeat(4, 2)
    segment = encode_rgb_segment(str(tmp_path / "s.mkv"), large, [2, 4], index, LOSSY)
    out = str(tmp_path / "o.mp4")
    assembly = assemble(path, index, [str(tmp_path / "s.mkv")], [segment], out, "mp4", LOSSY)
    measured, problems = verify_output(out, path, index, [segment], assembly)
    assert problems == ()
    assert measured.pts == index.pts
    again = index_of(out).geometry
    assert (again.width, again.height, again.sample_aspect_ratio) == (256, 192, Fraction(4, 3))
    assert again.display_matrix == (*_TURNED[:6], 4 * _TURNED[6], 0, 1 << 30)


@pytest.mark.parametrize(
    ("codec", "container", "frame_keeps_it"),
    [
        ("libx264", "mp4", False),
        ("libx264", "mov", False),
        ("libx264", "mkv", True),
        ("libsvtav1", "mp4", True),
    ],
)
def test_a_held_last_frame_lasts_as_long_as_in_the_source(tmp_path, codec, container, frame_keeps_it):
    path = _held_source(tmp_path)
    index = index_of(path)
    assert index.durations[-1] * index.time_base == Fraction(512, 100)
    settings = EncodeSettings(codec=codec, crf=18, preset="veryfast", container=container)
    trip = identity(path, index, tmp_path / "work", settings)
    found = verify_file(trip.output, path, index, trip.segments, trip.assembly, settings, identity=True)
    assert found.problems == ()
    with av.open(trip.output) as out:
        assert out.duration == 6_040_000
    held = found.measured.last_duration * found.measured.time_base
    assert (held == Fraction(512, 100)) is frame_keeps_it
    warned = any(text.startswith("last_frame_hold: the last frame stays 5.120 s") for text in found.warnings)
    assert warned is not frame_keeps_it


def test_even_frame_times_keep_their_average_rate(tmp_path):
    trip = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG), LOSSY)[2]
    with av.open(trip.output) as out:
        assert out.streams.video[0].average_rate == 25


def test_hevc_in_mp4_is_marked_so_that_players_know_it(tmp_path):
    settings = EncodeSettings(codec="libx265", crf=30, preset="ultrafast")
    trip = _round_trip(tmp_path, "a.mp4", Clip(), settings)[2]
    with av.open(trip.output) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_subtitles_attachments_chapters_and_names_go_along(tmp_path):
    path = _rich_source(tmp_path)
    index = index_of(path)
    trip = identity(path, index, tmp_path / "work", LOSSLESS)
    _, problems = verify_output(trip.output, path, index, trip.segments, trip.assembly)
    assert problems == ()
    assert trip.assembly.dropped_streams == ()
    with av.open(trip.output) as out:
        assert [s.type for s in out.streams] == ["video", "audio", "subtitle", "attachment"]
        assert out.streams[2].metadata["title"] == "Signs"
        assert out.streams[2].language == "fre"
        assert out.streams[3].data == b"font bytes"
        assert [c["metadata"]["title"] for c in out.chapters()] == ["One", "Two"]
        assert out.metadata["title"] == "A film"


def test_what_a_container_cannot_carry_is_listed_and_the_rest_stays(tmp_path):
    path = _rich_source(tmp_path)
    index = index_of(path)
    trip = identity(path, index, tmp_path / "work", replace(LOSSLESS, container="mp4"))
    _, problems = verify_output(trip.output, path, index, trip.segments, trip.assembly)
    assert problems == ()
    assert trip.assembly.dropped_streams == (
        "stream 2 subtitle subrip: mp4 cannot carry it",
        "stream 3 attachment x.ttf: mp4 cannot carry it",
    )
    assert trip.assembly.copied == ((1, 1),)


def test_the_output_is_the_same_bytes_each_time(tmp_path):
    path, index, trip, _, _ = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG, audio="aac"), LOSSY)
    again = str(tmp_path / "again.mp4")
    assemble(path, index, trip.segment_paths, trip.segments, again, "mp4", LOSSY)
    assert Path(again).read_bytes() == Path(trip.output).read_bytes()


def test_missing_and_foreign_segments_are_refused(tmp_path):
    path, index, trip, _, _ = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG), chunk=1)
    out = str(tmp_path / "o.mp4")
    with pytest.raises(ChunkError, match="36 frames, the source 40"):
        assemble(path, index, trip.segment_paths[:-1], trip.segments[:-1], out, "mp4", LOSSLESS)
    other = identity(path, index, tmp_path / "other", EncodeSettings(codec="libx264", preset="slow"), chunk=1)
    mixed = [*trip.segment_paths[:-1], other.segment_paths[-1]]
    with pytest.raises(ChunkError, match="codec headers") as caught:
        assemble(path, index, mixed, trip.segments, out, "mp4", LOSSLESS)
    assert caught.value.code == "segment_mismatch"
    whole = [identity(path, index, tmp_path / "whole", LOSSLESS, chunk=99).segments[0]]
    with pytest.raises(ChunkError, match="cannot be read"):
        assemble(path, index, [str(tmp_path / "nowhere.mkv")], whole, out, "mp4", LOSSLESS)


def test_swapped_segments_do_not_pass_verification(tmp_path):
    path, index, trip, _, _ = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG[:24]), chunk=1)
    swapped = [trip.segment_paths[1], trip.segment_paths[0]]
    assembly = assemble(path, index, swapped, trip.segments[::-1], trip.output, "mp4", LOSSLESS)
    _, problems = verify_output(trip.output, path, index, trip.segments, assembly)
    assert any("other pictures than their segments, first frame 0" in p for p in problems)


def test_wrong_times_tags_and_sound_do_not_pass_verification(tmp_path):
    path, index, trip, _, _ = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG, audio="aac", tags=(1, 1, 1, 1)))
    late = replace(index, pts=(*index.pts[:-1], index.pts[-1] + 1))
    problems = verify_output(trip.output, path, late, trip.segments, trip.assembly)[1]
    assert any("frame times differ" in p for p in problems)
    tagged = replace(index, colour=replace(index.colour, matrix=9))
    problems = verify_output(trip.output, path, tagged, trip.segments, trip.assembly)[1]
    assert problems == ("colour matrix is tagged 1, planned 9",)
    other = make_clip(tmp_path / "b.mp4", Clip(pts=_LONG[:30], audio="aac"))
    problems = verify_output(trip.output, other, index, trip.segments, trip.assembly)[1]
    assert any("differs from its copy" in p for p in problems)


def test_a_damaged_output_does_not_pass_verification(tmp_path):
    path, index, trip, _, _ = _round_trip(tmp_path, "a.mp4", Clip(pts=_LONG))
    damaged = str(tmp_path / "damaged.mp4")
    shutil.copy(trip.output, damaged)
    with open(damaged, "r+b") as file:
        file.seek(os.path.getsize(damaged) * 2 // 3)
        file.write(b"\x00" * 200)
    _, problems = verify_output(damaged, path, index, trip.segments, trip.assembly)
    assert problems


def test_a_measurement_names_the_frames_one_by_one_and_together(tmp_path):
    _, index, trip, measured, _ = _round_trip(tmp_path, "a.mp4", Clip())
    assert measured.frame_hashes == tuple(all_hashes(trip.segments))
    assert measured.pts == index.pts
    assert len(set(measured.frame_hashes)) == measured.frames == 24


def _held_source(tmp_path: Path) -> str:
    """Matroska whose last frame, and only that, says that it stays for 5.12 seconds."""
    plain = make_clip(tmp_path / "p.mkv", Clip(pts=range(0, 960, 40), time_base=Fraction(1, 1000)))
    target = str(tmp_path / "held.mkv")
    with av.open(plain) as source, av.open(target, "w") as out:
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.duration = 5120 if packet.pts == 920 else packet.duration
                packet.stream = copy
                out.mux(packet)
    return target


def _with_silent_track(tmp_path: Path) -> str:
    """Matroska keeps a track that never says anything."""
    plain = make_clip(tmp_path / "plain.mp4", Clip(pts=_LONG, audio="aac"))
    target = str(tmp_path / "silent.mkv")
    with av.open(plain) as source, av.open(target, "w") as out:
        out.add_stream_from_template(source.streams.audio[0], opaque=True)
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    return target


def _rich_source(tmp_path: Path) -> str:
    """Video, sound, subtitles, a font, chapters and names in Matroska."""
    plain = make_clip(tmp_path / "plain.mp4", Clip(pts=_LONG, audio="aac"))
    target = str(tmp_path / "rich.mkv")
    with av.open(plain) as source, av.open(target, "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        text = out.add_mux_stream("subrip")
        text.metadata.update({"language": "fre", "title": "Signs"})
        out.add_attachment("x.ttf", "application/x-truetype-font", b"font bytes")
        out.metadata["title"] = "A film"
        base = Fraction(1, 1000)
        chapters = []
        for i, name in enumerate(("One", "Two")):
            times = {"start": 800 * i, "end": 800 * (i + 1), "time_base": base}
            chapters.append({"id": i + 1, **times, "metadata": {"title": name}})
        out.set_chapters(chapters)
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
        for start in (100, 900):
            line = av.Packet(b"Hello")
            line.stream, line.time_base = text, base
            line.pts = line.dts = start
            line.duration = 400
            out.mux(line)
    return target
