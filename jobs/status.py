"""`reelweave status`: done, left, quarantined and why, from the store alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, print_json, quiet_stdout
from jobs.outputs import open_output
from pipeline.errors import SpecError, StoreError

if TYPE_CHECKING:
    from pipeline.manifest import VideoRow
    from pipeline.store import Store


@dataclass(frozen=True)
class VideoStatus:
    """One video: status is done, quarantined or left."""

    video_uri: str
    status: str
    code: str
    error: str
    output_uri: str


def command(out: str, endpoint_url: str | None, as_json: bool) -> int:
    """Print the state of an output folder."""
    with quiet_stdout():
        store = open_output(out, endpoint_url)
        videos = read_status(store)
    if as_json:
        print_json(status_json(videos))
        return DONE
    counts = count(videos)
    print(", ".join(f"{counts[name]} {name}" for name in ("done", "quarantined", "left")))
    for video in videos:
        if video.status != "done":
            why = f": {video.code}: {video.error}" if video.code else ""
            print(f"{video.status:<12}{video.video_uri}{why}")
    return DONE


def read_status(store: Store) -> list[VideoStatus]:
    """Every video of the manifest and of the newest run's plan, sorted by URI.

    Raises SpecError when nothing was ever run there.
    """
    from pipeline.manifest import read_video_rows

    rows = read_video_rows(store)
    plans = plan_paths(store)
    if not rows and not plans:
        raise SpecError(f"{store.root}: no job has written here; give the output of a job", field="OUT")
    return combine(rows, planned_videos(store, plans[-1]) if plans else [])


def combine(rows: Iterable[VideoRow], planned: Iterable[str]) -> list[VideoStatus]:
    """Status of every video: what the manifest says, else left."""
    known = {
        row.video_uri: VideoStatus(row.video_uri, row.status, row.code, row.error, row.output_uri)
        for row in rows
    }
    left = {uri: VideoStatus(uri, "left", "", "", "") for uri in planned if uri not in known}
    return [video for _, video in sorted({**known, **left}.items())]


def plan_paths(store: Store) -> list[str]:
    """The plans of all runs below ``store``, oldest first: run ids sort by their time."""
    return [path for path in store.list("runs") if path.endswith("/plan.json")]


def planned_videos(store: Store, path: str) -> list[str]:
    """URIs of the videos that a run planned. Raises StoreError for a plan that is not readable."""
    try:
        return [str(video["video_uri"]) for video in json.loads(store.read(path))["videos"]]
    except (ValueError, KeyError, TypeError) as error:
        uri = store.uri(path)
        raise StoreError(f"{uri}: not a readable plan ({error}); delete it and run again", uri=uri) from error


def count(videos: Iterable[VideoStatus]) -> dict[str, int]:
    """How many videos have each status."""
    counts = {"done": 0, "quarantined": 0, "left": 0}
    for video in videos:
        counts[video.status] += 1
    return counts


def status_json(videos: list[VideoStatus]) -> dict[str, Any]:
    """The object that ``status --json`` prints."""
    return {**count(videos), "videos": [asdict(video) for video in videos]}
