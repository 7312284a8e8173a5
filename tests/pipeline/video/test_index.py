from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from pipeline.errors import SourceError, StoreError
from pipeline.settings import Limits
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.planes import hash64
from pipeline.video.types import Hdr
from tests.pipeline.video.media import Clip, index_of, make_clip

VFR = (0, 500, 1777, 1800, 4000, 4001, 9000, 9500, 12_000, 30_000)


def _refusal(path: str, limits: Limits | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        build_index(path, "s3://catalog/x", limits or Limits(), "digest")
    return caught.value


def test_the_index_of_a_variable_rate_video_holds_every_time_exactly(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pts=VFR)))
    assert index.time_base == Fraction(1, 12_800)
    assert index.pts == VFR
    assert index.durations[:3] == (500, 1277, 23)
    assert len(index.durations) == index.frames == len(VFR)
    assert index.decode_errors == 0


def test_frame_hashes_are_those_of_a_plain_decode(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    with av.open(path) as container:
        expected = tuple(hash64(frame) for frame in container.decode(video=0))
    assert index_of(path).frame_hashes == expected


def test_key_packets_are_listed_with_their_decode_times(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(gop=8)))
    assert index.key_pts == (0, 8 * 512, 16 * 512)
    assert all(dts <= pts for dts, pts in zip(index.key_dts, index.key_pts, strict=True))


def test_a_first_frame_after_zero_stays_there(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pts=range(12_800, 25_600, 512))))
    assert index.pts[0] == 12_800


def test_cuts_are_found_where_the_scene_changes_and_short_scenes_join(tmp_path):
    pts = tuple(range(0, 60 * 512, 512))
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pts=pts, cuts=(20, 41))))
    assert index.cuts == (0, 20, 41)


def test_a_still_scene_has_one_cut_at_its_start(tmp_path):
    assert index_of(make_clip(tmp_path / "a.mp4")).cuts == (0,)


def test_tags_geometry_and_rotation_come_from_the_file(tmp_path):
    turned = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    index = index_of(
        make_clip(tmp_path / "a.mp4", Clip(tags=(2, 9, 9, 16), sar=Fraction(4, 3), matrix=turned))
    )
    assert (index.colour.range, index.colour.matrix, index.colour.transfer) == (2, 9, 16)
    assert index.geometry.display_matrix == turned
    assert index.geometry.sample_aspect_ratio == Fraction(4, 3)
    assert any(w.startswith("pq_transfer") for w in index.warnings)


def test_more_frames_than_allowed_are_refused(tmp_path):
    assert _refusal(make_clip(tmp_path / "a.mp4"), Limits(max_frames=23)).code == "too_many_frames"


def test_two_frames_at_one_time_are_refused(tmp_path):
    path = _copy_with_pts(make_clip(tmp_path / "a.mp4", Clip(options={"bf": "0"})), tmp_path / "b.mkv",
                          lambda i: max(i - 1, 0) * 40)  # fmt: skip
    assert _refusal(path).code == "duplicate_pts"


def test_a_hole_in_time_is_kept_and_reported(tmp_path):
    pts = (*range(0, 5120, 512), *range(512_000, 517_120, 512))
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pts=pts)))
    assert index.pts == pts
    assert [w for w in index.warnings if w.startswith("pts_gap")] == [
        "pts_gap: 39.640 s before frame 10, times kept"
    ]


def test_an_index_survives_storage_exactly(tmp_path):
    index = index_of(make_clip(tmp_path / "a.mp4", Clip(pts=VFR, audio="aac")))
    rich = replace(index, hdr=Hdr(((1, 2),) * 10, (1000, 300)),
                   geometry=replace(index.geometry, display_matrix=tuple(range(9))))  # fmt: skip
    for value in (index, rich):
        data = index_to_bytes(value)
        assert index_from_bytes(data) == value
        assert index_to_bytes(index_from_bytes(data)) == data


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_stored_index_is_a_store_error(damage):
    with pytest.raises(StoreError, match="delete it"):
        index_from_bytes(damage)


def _copy_with_pts(path: str, target: Path, time) -> str:
    """Remux without B-frames with times of our own, in milliseconds."""
    with av.open(path) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for i, packet in enumerate(p for p in source.demux(source.streams.video[0]) if p.size):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = time(i)
            out.mux(packet)
    return str(target)
