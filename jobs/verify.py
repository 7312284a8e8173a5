"""`reelweave verify`: measures every published video again and compares it with its manifest row, checks its
content credentials, and names what lies among the results without a row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, FAILED, print_json, quiet_stdout, say
from jobs.outputs import open_output
from jobs.status import plan_paths
from pipeline.errors import SourceError, SpecError

if TYPE_CHECKING:
    from pipeline.manifest import VideoRow
    from pipeline.store import Store


@dataclass(frozen=True)
class Bad:
    """A published video that is not what its manifest row says."""

    output_uri: str
    problem: str


def command(out: str, endpoint_url: str | None, as_json: bool) -> int:
    """Check an output folder; exit code 1 when any video is bad."""
    from pipeline.manifest import read_video_rows

    with quiet_stdout():
        store = open_output(out, endpoint_url)
        rows = read_video_rows(store)
        if not rows and not plan_paths(store):
            raise SpecError(f"{store.root}: no job has written here; give the output of a job", field="OUT")
        done = [row for row in rows if row.status == "done"]
        if any(_is_signed(row) for row in done) and find_spec("c2pa") is None:
            say(
                "warning: content credentials are not checked: c2pa-python is not installed here; "
                "pip install 'reelweave[provenance]'"
            )
        bad = [*check_videos(store, done), *foreign_objects(store, done)]
    if as_json:
        print_json(verify_json(len(done), bad))
    else:
        print(f"{len(done)} checked, {len(bad)} bad")
        for entry in bad:
            print(f"bad {entry.output_uri}: {entry.problem}")
    return FAILED if bad else DONE


def check_videos(store: Store, rows: Iterable[VideoRow]) -> list[Bad]:
    """Re-measure the published object of every row; what differs comes back."""
    bad = []
    for row in rows:
        found = problem_of(store, row)
        say(f"{'bad' if found else 'ok'} {row.output_uri}")
        if found:
            bad.append(Bad(row.output_uri, found))
    return bad


def foreign_objects(store: Store, done: Iterable[VideoRow]) -> list[Bad]:
    """Objects among the results that no row of a done video speaks of."""
    from pipeline.disclosure import sidecar_of

    known = {path for row in done for path in (row.output_rel, sidecar_of(row))}
    why = "foreign: no manifest row speaks of it; move it away, or run the job again if it is to be replaced"
    return [Bad(store.uri(path), why) for path in store.list("videos") if path not in known]


def problem_of(store: Store, row: VideoRow) -> str | None:
    """The first difference between a published object and its row, or None."""
    from pipeline.filesystem import ObjectMissingError

    path = row.output_rel
    with tempfile.TemporaryDirectory(prefix="reelweave-verify-") as folder:
        local = Path(folder) / f"video{Path(path).suffix}"
        try:
            store.get_file(path, local)
        except ObjectMissingError:
            return "missing: the object is not there; run the job again"
        found = next(_problems(local, row), None)
        if found is None and _is_signed(row) and find_spec("c2pa") is not None:
            return _problem_of_credentials(store, row, local)
        return found


def _is_signed(row: VideoRow) -> bool:
    return "credentials" in row.metrics.get("provenance", {})


def _problem_of_credentials(store: Store, row: VideoRow, local: Path) -> str | None:
    from pipeline.credentials import credentials_problem
    from pipeline.disclosure import sidecar_of

    place = sidecar_of(row)
    sidecar = None if place is None else store.find(place)
    if place is not None and sidecar is None:
        return f"its content credentials, {store.uri(place)}, are missing; run the job again"
    return credentials_problem(str(local), local.suffix[1:], sidecar)


def _problems(local: Path, row: VideoRow) -> Iterator[str]:
    """Every check that needs nothing but the file and its row, cheapest first."""
    from pipeline.keys import file_sha256
    from pipeline.video.facts import read_facts
    from pipeline.video.measured import measure
    from pipeline.video.published import allowed_errors, file_problems, published_stream

    size, planned_size = local.stat().st_size, row.metrics.get("bytes")
    if planned_size not in (None, size):
        yield f"content changed: it has {size} bytes, the manifest says {planned_size}"
    sha256 = file_sha256(local)
    if sha256 != row.output_sha256:
        yield f"content changed: sha256 is {sha256}, the manifest says {row.output_sha256}"
    stream = published_stream(row.metrics)
    try:
        measured = measure(str(local), stream)
        facts = read_facts(str(local), stream)
    except SourceError as error:
        yield f"not decodable: {error}"
        return
    allowed = allowed_errors(row.metrics)
    if measured.decode_errors != allowed:
        yield f"{measured.decode_errors} decode errors, the manifest says {allowed}"
    for name in ("frames", "frames_md5", "pts_sha256"):
        if getattr(measured, name) != getattr(row, name):
            yield f"{name} is {getattr(measured, name)}, the manifest says {getattr(row, name)}"
    yield from file_problems(facts, row.metrics)


def verify_json(checked: int, bad: list[Bad]) -> dict[str, Any]:
    """The object that ``verify --json`` prints."""
    return {"checked": checked, "bad": [asdict(entry) for entry in bad]}
