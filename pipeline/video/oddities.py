"""What is odd about a video, in words: the warnings of its index, and later of its manifest row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipeline.video.integers import Integers
from pipeline.video.presentation import gap_warnings, lost_frames
from pipeline.video.types import Probe, Treatment

_NAMED = 16
_CHANGES_NAMED = 8
_HIDING = ("vp8", "vp9", "av1")


@dataclass(frozen=True)
class Oddities:
    """What one pass over a file has seen.

    ``pts`` in ``time_base`` are those of the index; ``rebuilt`` of them are not the file's own, and
    ``missing`` frames had none. ``torn_packets`` are marked by the demuxer as incomplete. ``packet_pts``: of
    all packets; ``before_key``: of those before the first key packet. ``resized``: ordinal, width, height
    and format of every change. ``hdr``: "pq", "hlg" or "". ``fields``: what `FieldDetective` says.
    ``side_data``: names of what encoding anew loses.
    """

    facts: Probe
    errors: int
    corrupt: int
    pts: Integers
    time_base: Fraction
    rebuilt: int
    missing: int
    torn_packets: int
    packet_pts: Integers
    before_key: Integers
    resized: tuple[tuple[int, int, int, str], ...]
    hdr: str
    interlaced: int
    alpha: bool
    fields: tuple[str, ...]
    side_data: tuple[str, ...]


def warnings_of(seen: Oddities, treatment: Treatment, assume_fps: str | None) -> tuple[str, ...]:
    """One sentence per oddity, each beginning with a stable word."""
    return (
        *seen.facts.warnings,
        *_damage(seen),
        *_times(seen, assume_fps),
        *_pictures(seen, treatment),
        *([f"dropped_side_data: {', '.join(sorted(seen.side_data))}"] if seen.side_data else []),
    )


def described(picture: tuple[int, int, str]) -> str:
    """Size and format of a picture."""
    return "{}x{} {}".format(*picture)


def _damage(seen: Oddities) -> Iterator[str]:
    frames, lost = len(seen.pts), seen.facts.samples_lost
    if lost:
        yield f"partial: the file is cut off; {frames} frames of about {frames + lost} are there"
    if seen.errors:
        yield f"decode_errors={seen.errors}: damaged packets were skipped{_holes(seen)}"
    if seen.torn_packets:
        yield f"torn_packets={seen.torn_packets}: the stream itself says that parts of them are lost"
    if seen.corrupt:
        yield f"corrupt_frames={seen.corrupt}: damaged pictures were concealed"


def _holes(seen: Oddities) -> str:
    """The times of packets that gave no frame."""
    if seen.rebuilt:
        return ""
    unseen = np.setdiff1d(np.asarray(seen.packet_pts), np.asarray(seen.pts))
    holes = unseen[unseen >= seen.pts[0]]
    if not len(holes):
        return ""
    more = "" if len(holes) <= _NAMED else f" and {len(holes) - _NAMED} more"
    return f"; missing_pts={holes[:_NAMED].tolist()}{more}"


def _times(seen: Oddities, assume_fps: str | None) -> Iterator[str]:
    if not seen.rebuilt:
        # Codecs with hidden pictures may show the first one later than they store it.
        early = seen.before_key if seen.facts.codec in _HIDING else seen.packet_pts
        lead = int((np.asarray(early) < seen.pts[0]).sum())
        if lead:
            yield f"leading_packets_undecodable={lead}: the file starts before its first key frame"
    elif seen.time_base != seen.facts.time_base:
        yield f"pts_synthesised={seen.missing}: the file has no times; {assume_fps} frames/s assumed"
    else:
        yield f"pts_rebuilt={seen.rebuilt}: {seen.missing} were missing, the others doubled or ran back"
    yield from gap_warnings(seen.pts, seen.time_base)
    yield from _lost(seen)


def _lost(seen: Oddities) -> Iterator[str]:
    """Frames of which not even a packet is in the file: only the times of the others tell of them."""
    if seen.rebuilt:
        return
    shown, packets = np.asarray(seen.pts), np.asarray(seen.packet_pts)
    there = np.union1d(shown, packets[packets >= shown[0]])
    holes = lost_frames(there)
    if holes:
        named = ", ".join(str(np.searchsorted(shown, there[at])) for at, _ in holes[:_NAMED])
        more = "" if len(holes) <= _NAMED else f" and {len(holes) - _NAMED} more"
        count = sum(missing for _, missing in holes)
        yield f"frames_missing={count}: none at the usual time before frame {named}{more}; times kept"


def _pictures(seen: Oddities, treatment: Treatment) -> Iterator[str]:
    for ordinal, width, height, pix_fmt in seen.resized[:_CHANGES_NAMED]:
        now = described((width, height, pix_fmt))
        yield f"size_change: {now} from frame {ordinal} on, scaled to the first size"
    if seen.hdr:
        light = f"light up to {treatment.light_peak} cd/m2; what is brighter is cut"
        plain = "HDR code values, without tone mapping"
        yield f"{seen.hdr}_transfer: processed as {light if treatment.light_peak else plain}"
    if seen.interlaced:
        done = "deinterlaced (bwdif)" if treatment.deinterlace else "pictures keep both fields woven"
        yield f"interlaced_frames={seen.interlaced}: {done}"
    yield from seen.fields
    if treatment.turn:
        yield "rotation_baked: pictures are turned, and the display matrix is gone"
    if seen.alpha and not treatment.alpha:
        yield "alpha_dropped: the transparency of this video is left out"
