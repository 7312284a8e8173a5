"""Every check fails when what it looks after is broken in a real file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipeline.settings import EncodeSettings
from pipeline.video import verify
from pipeline.video.encode import encode_source_segment
from pipeline.video.facts import read_facts
from pipeline.video.published import file_problems, verified_metrics
from pipeline.video.verify import Verification, verify_file
from tests.pipeline.video.media import LOSSLESS, LOSSY, Clip, RoundTrip, identity, index_of, make_clip

CHECKS = ["V1_streams", "V2_times", "V3_pictures", "V4_sound", "V5_colour", "V6_lossless", "V7_quality",
          "V8_object"]  # fmt: skip
_LONG = tuple(range(0, 40 * 512, 512))


class Case:
    """A finished identity job over a source with everything in it; `check` verifies a doctored output."""

    def __init__(self, folder: Path, settings: EncodeSettings, source: str) -> None:
        self.settings, self.source = settings, source
        self.index = index_of(source)
        self.trip: RoundTrip = identity(source, self.index, folder / "work", settings)
        self.copy = str(folder / f"doctored.{self.trip.assembly.container}")

    def check(self, path: str | None = None, **changes: Any) -> Verification:
        index = changes.get("index", self.index)
        segments = changes.get("segments", self.trip.segments)
        return verify_file(
            path or self.trip.output,
            changes.get("source", self.source),
            index,
            segments,
            changes.get("assembly", self.trip.assembly),
            changes.get("settings", self.settings),
            identity=changes.get("identity", True),
        )

    def doctor(self, change: Callable[[Any, Any], None] | None = None, **rules: Any) -> str:
        """Rewrite the output packet by packet; ``rules`` as in `_rewrite`."""
        _rewrite(self.trip.output, self.copy, self.trip.assembly.container, change, **rules)
        return self.copy


def _rewrite(
    path: str,
    target: str,
    container: str,
    change: Callable[[Any, Any], None] | None,
    *,
    chapters: Callable[[list[Any]], list[Any]] = lambda c: c,
    attachments: bool = True,
    packet: Callable[[Any], Any] = lambda p: p,
    title: str | None = None,
) -> None:
    options = {"movie_timescale": "90000", "video_track_timescale": "12800"} if container == "mp4" else {}
    muxer = {"mkv": "matroska"}.get(container, container)
    with av.open(path) as source, av.open(target, "w", format=muxer, container_options=options) as out:
        out.metadata.update({**source.metadata, **({"title": title} if title else {})})
        out.set_chapters(chapters(source.chapters()))
        copies: dict[int, Any] = {}
        for stream in source.streams:
            if stream.type == "attachment":
                if attachments:
                    data = bytes(stream.data)
                    out.add_attachment(stream.metadata["filename"], stream.metadata["mimetype"], data)
                continue
            copy = out.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            if stream.type == "video":
                copy.time_base = stream.time_base
            copies[stream.index] = copy
            if change is not None:
                change(stream, copy)
        packets = [p for p in source.demux([s for s in source.streams if s.index in copies]) if p.size]
        for found in packets:
            moved = packet(found)
            if moved is not None:
                moved.stream = copies[found.stream_index]
                out.mux(moved)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Matroska with sound, subtitles, an attachment, chapters, names and dispositions, lossless."""
    folder = tmp_path_factory.mktemp("rich")
    plain = make_clip(folder / "plain.mp4", Clip(pts=_LONG, audio="aac", tags=(1, 1, 1, 1)))
    source = str(folder / "rich.mkv")
    with av.open(plain) as given, av.open(source, "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in given.streams}
        out.streams[1].metadata.update({"language": "ger", "title": "Commentary"})
        out.streams[1].disposition = Disposition.comment
        text = out.add_mux_stream("subrip")
        text.metadata.update({"language": "fre", "title": "Signs"})
        text.disposition = Disposition.forced
        out.add_attachment("x.ttf", "application/x-truetype-font", b"font bytes")
        out.metadata["title"] = "A film"
        base = Fraction(1, 1000)
        times = [{"start": 800 * i, "end": 800 * (i + 1), "time_base": base} for i in range(2)]
        out.set_chapters([{"id": i + 1, **t, "metadata": {"title": f"{i}"}} for i, t in enumerate(times)])
        for packet in given.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
        for start in (100, 900):
            line = av.Packet(b"Hello")
            line.stream, line.time_base, line.pts, line.dts, line.duration = text, base, start, start, 400
            out.mux(line)
    return Case(folder, LOSSLESS, source)


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """MP4 with sound, x264 at crf 23."""
    folder = tmp_path_factory.mktemp("lossy")
    options = {"x264-params": "keyint=8:scenecut=0:qp=12"}
    clip = Clip(pts=_LONG, audio="aac", tags=(1, 1, 1, 1), options=options)
    return Case(folder, LOSSY, make_clip(folder / "a.mp4", clip))


def failed(found: Verification) -> set[str]:
    return {
        name for name, text in found.checks.items() if text != verify.OK and not text.startswith("not appl")
    }


def test_a_faithful_output_passes_all_eight_checks_by_name(rich: Case, lossy: Case) -> None:
    for case in (rich, lossy):
        found = case.check()
        assert list(found.checks) == CHECKS
        assert (found.problems, failed(found)) == ((), set())
    assert rich.check().checks["V6_lossless"] == "ok"
    assert rich.check().checks["V7_quality"] == "not applicable: the codec is lossless"
    assert lossy.check().checks["V6_lossless"] == "not applicable: the codec is lossy"
    assert lossy.check().checks["V7_quality"] == "ok"


def test_a_plain_rewrite_still_passes_so_that_only_the_tampering_is_told(rich: Case, lossy: Case) -> None:
    assert rich.check(rich.doctor()).problems == ()
    assert lossy.check(lossy.doctor()).problems == ()


def test_v1_sees_a_chapter_that_moved_or_is_called_otherwise(rich: Case) -> None:
    def late(chapters: list[Any]) -> list[Any]:
        return [{**c, "start": c["start"] + int(Fraction(1, 20) / c["time_base"])} for c in chapters]

    def renamed(chapters: list[Any]) -> list[Any]:
        return [{**c, "metadata": {"title": "Other"}} for c in chapters]

    for change in (late, renamed, lambda chapters: chapters[:1]):
        found = rich.check(rich.doctor(chapters=change))
        assert failed(found) == {"V1_streams"}
        assert "chapters differ" in found.problems[0]


def test_v1_sees_a_dropped_disposition_language_title_and_attachment(rich: Case) -> None:
    def no_disposition(stream: Any, copy: Any) -> None:
        if stream.type == "subtitle":
            copy.disposition = Disposition(0)

    def no_language(stream: Any, copy: Any) -> None:
        if stream.type == "audio":
            copy.metadata.pop("language")

    def other_title(stream: Any, copy: Any) -> None:
        if stream.type == "subtitle":
            copy.metadata["title"] = "Songs"

    for change, words in ((no_disposition, "disposition 0"), (no_language, "language None"),
                          (other_title, "title ['Songs']")):  # fmt: skip
        found = rich.check(rich.doctor(change))
        assert failed(found) == {"V1_streams"}
        assert words in found.problems[0]
    found = rich.check(rich.doctor(attachments=False))
    assert failed(found) == {"V1_streams"}
    assert any("attachments are missing" in problem for problem in found.problems)
    assert failed(rich.check(rich.doctor(title="Another film"))) == {"V1_streams"}


def test_v1_sees_streams_that_are_neither_kept_nor_listed(rich: Case) -> None:
    short = replace(rich.trip.assembly, copied=rich.trip.assembly.copied[:1])
    found = rich.check(assembly=short)
    assert failed(found) == {"V1_streams"}
    assert any("neither kept nor listed" in problem for problem in found.problems)


def test_v1_sees_another_aspect_turn_and_codec(lossy: Case) -> None:
    geometry = replace(lossy.index.geometry, sample_aspect_ratio=Fraction(4, 3))
    assert failed(lossy.check(index=replace(lossy.index, geometry=geometry))) == {"V1_streams"}
    turned = replace(lossy.index.geometry, display_matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
    assert failed(lossy.check(index=replace(lossy.index, geometry=turned))) == {"V1_streams"}
    segments = [replace(s, codec="libx265") for s in lossy.trip.segments]
    assert "V1_streams" in failed(lossy.check(segments=segments))


def test_v2_sees_a_frame_at_another_time(lossy: Case) -> None:
    def nudge(packet: Any) -> Any:
        if packet.stream.type == "video" and packet.pts == 39 * 512:
            packet.pts += 3
        return packet

    assert failed(lossy.check(lossy.doctor(packet=nudge))) == {"V2_times"}


def test_v2_and_v3_see_a_lost_frame(lossy: Case) -> None:
    def lose(packet: Any) -> Any:
        return None if packet.stream.type == "video" and packet.pts == 39 * 512 else packet

    assert "V2_times" in failed(lossy.check(lossy.doctor(packet=lose)))


def test_v3_and_v6_see_one_changed_frame(rich: Case, tmp_path: Path) -> None:
    segments = [*rich.trip.segments]
    changed = segments[1].frame_hashes
    segments[1] = replace(segments[1], frame_hashes=(*changed[:3], 0, *changed[4:]))
    found = rich.check(segments=segments)
    assert failed(found) == {"V3_pictures"}
    assert found.problems[0].endswith(f"first frame {segments[0].frames + 3}")
    # The same with a real file: its frame 5 has one other code, and its segments say so themselves.
    case = _with_one_other_pixel(rich, tmp_path)
    found = case.check()
    assert failed(found) == {"V6_lossless"}
    assert "changed 1 frames, the first is frame 5" in found.problems[0]


def _with_one_other_pixel(rich: Case, folder: Path) -> Case:
    """A job whose encoder stage changed one code of one picture."""
    import tests.pipeline.video.media as media

    def tampered(path: str, frames: Any, groups: Any, index: Any, settings: Any) -> Any:
        def change(number: int, frame: Any) -> Any:
            if number == 5 and path.endswith("0.mkv"):
                plane = np.frombuffer(frame.planes[0], np.uint8)
                plane.setflags(write=True) if not plane.flags.writeable else None
                plane[7] ^= 1
            return frame

        made = (change(number, frame) for number, frame in enumerate(frames))
        return encode_source_segment(path, made, groups, index, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "encode_source_segment", tampered)
        return Case(folder, rich.settings, rich.source)


def test_v3_sees_damage(lossy: Case, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(Path(lossy.trip.output).read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 200] = bytes(200)
    damaged.write_bytes(data)
    assert failed(lossy.check(str(damaged))) & {"V3_pictures", "V4_sound"}


def test_v4_sees_sound_that_was_shifted_shortened_or_replaced(lossy: Case) -> None:
    def later(packet: Any) -> Any:
        if packet.stream.type == "audio":
            packet.pts, packet.dts = packet.pts + 480, packet.dts + 480
        return packet

    def shorter(packet: Any) -> Any:
        return None if packet.stream.type == "audio" and packet.pts > 24_000 else packet

    found = lossy.check(lossy.doctor(packet=later))
    assert failed(found) == {"V4_sound"}
    assert "moved 10.000 ms against the picture" in found.problems[0]
    found = lossy.check(lossy.doctor(packet=shorter))
    assert failed(found) == {"V4_sound"}
    assert "differs from its copy" in found.problems[0]


def test_v4_sees_a_changed_subtitle(rich: Case) -> None:
    def other(packet: Any) -> Any:
        if packet.stream.type != "subtitle":
            return packet
        changed = av.Packet(b"Adieu")
        changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
        changed.time_base = packet.time_base
        return changed

    assert failed(rich.check(rich.doctor(packet=other))) == {"V4_sound"}


@pytest.mark.parametrize("tag", ["range", "matrix", "primaries", "transfer"])
def test_v5_sees_a_wrong_colour_tag(lossy: Case, tag: str) -> None:
    colour = replace(lossy.index.colour, **{tag: 9 if tag != "range" else 2})
    found = lossy.check(index=replace(lossy.index, colour=colour))
    assert failed(found) == {"V5_colour"}
    assert found.problems[0].startswith(f"colour {tag} is tagged 1")


def test_v5_sees_lost_hdr_metadata(lossy: Case) -> None:
    from pipeline.video.types import Hdr

    found = lossy.check(index=replace(lossy.index, hdr=Hdr(None, (1000, 400))))
    assert failed(found) == {"V5_colour"}


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "libvpx-vp9", "ffv1"])
def test_v6_holds_for_every_lossless_codec(lossy: Case, tmp_path: Path, codec: str) -> None:
    settings = EncodeSettings(codec=codec, crf=0, preset="ultrafast")
    case = Case(tmp_path, settings, lossy.source)
    found = case.check()
    assert found.problems == ()
    assert found.checks["V6_lossless"] == "ok"


def test_v7_refuses_garbage_and_warns_where_the_user_asked_for_little(lossy: Case, tmp_path: Path) -> None:
    # The plan says frame n, the pictures are those of another, brighter clip: a consistent, wrong job.
    other = make_clip(tmp_path / "b.mp4", Clip(pts=_LONG, cuts=(0, 0, 0), tags=(1, 1, 1, 1), audio="aac"))
    wrong = Case(tmp_path, LOSSY, other)
    found = lossy.check(wrong.trip.output, segments=wrong.trip.segments)
    assert failed(found) == {"V7_quality"}
    assert "dB (luma PSNR) from the source" in found.problems[0]
    found = lossy.check(
        wrong.trip.output, segments=wrong.trip.segments, settings=replace(LOSSY, crf=51)
    )
    assert found.problems == ()
    assert any(text.startswith("low_quality") for text in found.warnings)
    found = lossy.check(wrong.trip.output, segments=wrong.trip.segments, identity=False)
    assert found.checks["V7_quality"] == "not applicable: pictures were processed"


def test_v7_records_the_figures_of_every_segment(lossy: Case) -> None:
    found = lossy.check()
    figures = verified_metrics(found)["luma_psnr_db"]
    assert len(figures["segments"]) == len(lossy.trip.segments)
    assert 30 < figures["worst_segment"] == min(figures["segments"]) <= 50


def test_v8_records_what_was_written_with_what(lossy: Case) -> None:
    written = lossy.check().object
    assert written.size == os.path.getsize(lossy.trip.output)
    assert len(written.sha256) == 64
    assert written.encoder.startswith("libx264 64x48 yuv420p threads=1 crf=23 preset=veryfast x264-params=")
    assert written.ffmpeg


def test_v8_refuses_an_object_that_nobody_can_name(lossy: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "describe_encoder", lambda *arguments: "")
    assert failed(lossy.check()) == {"V8_object"}


def test_tags_a_container_does_not_store_are_named(tmp_path: Path) -> None:
    plain = make_clip(tmp_path / "plain.mkv", Clip(pts=_LONG))
    source = str(tmp_path / "tagged.mkv")
    with av.open(plain) as given, av.open(source, "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0], opaque=True)
        out.metadata.update({"title": "T", "camera_firmware": "1.2"})
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    found = Case(tmp_path, LOSSLESS, source).check()
    assert found.problems == ()
    assert "tags_dropped: mp4 does not store file camera_firmware" in found.warnings


def test_the_row_of_a_file_tells_a_doctored_one(rich: Case) -> None:
    metrics = verified_metrics(rich.check())
    assert [*file_problems(read_facts(rich.trip.output), metrics)] == []

    def renamed(chapters: list[Any]) -> list[Any]:
        return [{**c, "metadata": {"title": "Other"}} for c in chapters]

    (problem, *_) = file_problems(read_facts(rich.doctor(chapters=renamed)), metrics)
    assert problem == "chapters.0.title is Other, the manifest says 0"
    problems = [*file_problems(read_facts(rich.doctor(attachments=False)), metrics)]
    assert problems == ["streams is a list of 3, the manifest says a list of 4"] or "streams" in problems[0]
