"""Rules of the room that a review would otherwise have to find again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pipeline.video

_SOURCES = sorted(Path(pipeline.video.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"set_level", "it can deadlock decoders of damaged streams"),
        (r"dts is None:\s*continue", "it drops the first key frame of Matroska files"),
        (r"[\"']AUTO[\"']|[\"']FRAME[\"']", "frame threads decode damaged streams differently each time"),
        (r"\.to_rgb\(|\.to_image\(", "they convert with BT.601 whatever the tags say"),
        (r"import (torch|ray)\b|from (torch|ray)\b", "this room knows neither"),
    ],
)
def test_no_source_of_the_room_uses_what_is_known_to_go_wrong(pattern, why):
    guilty = [path.name for path in _SOURCES if re.search(pattern, path.read_text())]
    assert not guilty, why
