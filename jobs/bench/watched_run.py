"""`python -m jobs.bench.watched_run LOG run JOB.yaml`: the command line, whose workers keep a `WorkLog`."""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.entry import interrupted_quietly

if __name__ == "__main__":
    log = Path(sys.argv.pop(1))
    with interrupted_quietly():
        from jobs import cli
        from jobs.bench.work_log import WorkLog, watched
    with watched(WorkLog(log)):
        cli.main()
