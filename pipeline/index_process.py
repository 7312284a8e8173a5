"""Indexing in a process of its own, where no cluster does it: a decoder that dies takes nobody along.

Runs index in Ray workers, which may die. `reelweave plan` has none, and a hostile file must not end it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.settings import Limits, VideoPolicy
from pipeline.video.index import build_index
from pipeline.video.index_io import index_from_bytes, index_to_bytes
from pipeline.video.types import VideoIndex

_ROOT = Path(__file__).resolve().parent.parent


def index_in_process(
    path: str, uri: str, limits: Limits, source_digest: str, policy: VideoPolicy
) -> VideoIndex:
    """Like `pipeline.video.index.build_index`.

    Raises SourceError as that does, and with code ``crashed`` when the decoder's process died.
    """
    asked = {
        "path": path,
        "uri": uri,
        "source_digest": source_digest,
        "limits": dataclasses.asdict(limits),
        "policy": dataclasses.asdict(policy),
    }
    with tempfile.TemporaryDirectory(prefix="reelweave-index-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.index_process", folder],
            input=json.dumps(asked),
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)])},
            check=False,
        )
        index, refused = Path(folder) / "index", Path(folder) / "refused.json"
        if done.returncode == 0 and index.exists():
            return index_from_bytes(index.read_bytes())
        if done.returncode == 0 and refused.exists():
            raise SourceError(**json.loads(refused.read_text()))
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise SourceError(
        f"{uri}: the process that decoded it ended with {done.returncode} ({last}); keep the file and report "
        "it, and take it off the list",
        code="crashed",
        uri=uri,
    )


def main(folder: str) -> None:
    """The process: reads the question from stdin and leaves an index, or a refusal, in ``folder``."""
    asked = json.load(sys.stdin)
    policy, limits = VideoPolicy(**asked["policy"]), Limits(**asked["limits"])
    try:
        index = build_index(asked["path"], asked["uri"], limits, asked["source_digest"], policy)
    except SourceError as error:
        facts = {"message": error.message, "code": error.code, "uri": asked["uri"]}
        (Path(folder) / "refused.json").write_text(json.dumps(facts))
        return
    (Path(folder) / "index").write_bytes(index_to_bytes(index))


if __name__ == "__main__":
    main(sys.argv[1])
