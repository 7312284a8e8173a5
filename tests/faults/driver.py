"""`python -m tests.faults.driver FILE`: runs a pickled job in a process that a worker of it may kill."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import ray

from jobs.bench.work_log import WorkLog, watched
from pipeline.graph import run_job
from tests.faults import sabotage

if __name__ == "__main__":
    settings, kill, log = pickle.loads(Path(sys.argv[1]).read_bytes())
    ray.cloudpickle.register_pickle_by_value(sabotage)
    hand = sabotage.Saboteur(WorkLog(log), kill.victim, kill.moment, kill.step, kill.nth, os.getpid())
    with watched(hand):
        run_job(settings, on_event=lambda event: None)
