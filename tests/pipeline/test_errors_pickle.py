"""Errors cross process borders whole: class, sentence and facts."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.errors import ChunkError, ReelweaveError, SourceError, SpecError, StoreError
from pipeline.failures import run_error

FACTS = {"uri": "s3://in/-dash ünï ☃ 'q' %20.mp4", "frame": 1207, "range": [0, 128], "nested": {"a": None}}
REQUIRED = {SourceError: {"code": "no_video_stream"}, SpecError: {"field": "storage.endpoint_url"}}


def _all_error_classes() -> list[type[ReelweaveError]]:
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        # The enhancer needs torch; it may be absent or slow, and it defines no error of its own.
        if not module.name.startswith(("pipeline.enhancer", "pipeline.enhancement")):
            importlib.import_module(module.name)
    found, todo = [], [ReelweaveError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo += cls.__subclasses__()
    return sorted(set(found), key=lambda cls: cls.__qualname__)


def _make(cls: type[ReelweaveError]) -> ReelweaveError:
    required = {
        name: v for base, facts in REQUIRED.items() if issubclass(cls, base) for name, v in facts.items()
    }
    return cls("frame 1207: decoder returned 1918x1080, expected 1920x1080", **required, **FACTS)


@pytest.mark.parametrize("cls", _all_error_classes(), ids=lambda cls: cls.__qualname__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_whole(cls: type[ReelweaveError], protocol: int) -> None:
    error = _make(cls)
    for back in (pickle.loads(pickle.dumps(error, protocol)), copy.deepcopy(error)):
        assert type(back) is cls
        assert str(back) == str(error) == error.message
        assert back.message == error.message
        assert back.facts == error.facts
        assert back.facts["frame"] == 1207


def test_the_tree_has_the_four_branches() -> None:
    classes = set(_all_error_classes())
    assert {SpecError, SourceError, ChunkError, StoreError} < classes
    assert issubclass(ChunkError, SourceError)
    assert not issubclass(StoreError, SourceError), "a storage failure must not quarantine a video"


def test_properties_survive_too() -> None:
    assert pickle.loads(pickle.dumps(SpecError("no", field="a.b"))).field == "a.b"
    assert pickle.loads(pickle.dumps(ChunkError("no", code="poison", key="k"))).code == "poison"
    assert pickle.loads(pickle.dumps(SpecError("no"))).field == ""


def test_an_error_raised_in_another_process_arrives_whole() -> None:
    code = (
        "import pickle, sys; from pipeline.errors import ChunkError;"
        "sys.stdout.buffer.write(pickle.dumps(ChunkError('no', code='oom', uri='x', attempts=3)))"
    )
    root = Path(pipeline.__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    error = pickle.loads(result.stdout)
    assert (type(error), error.code, error.facts["attempts"]) == (ChunkError, "oom", 3)


def test_what_a_worker_raised_is_told_as_it_was_raised_however_ray_wraps_it() -> None:
    from ray.data.exceptions import SystemException
    from ray.exceptions import OutOfDiskError, RayTaskError

    wrapped = RayTaskError("work", "a long traceback", StoreError("s3://b: gone")).as_instanceof_cause()
    told = run_error(wrapped)
    assert (type(told), str(told)) == (StoreError, "s3://b: gone")
    other = RayTaskError("work", "a long traceback", ValueError("a\nb")).as_instanceof_cause()
    assert str(run_error(other)).startswith("the workers gave up (ValueError: a); ")
    full = OutOfDiskError("no room")
    full.__cause__ = SystemException()
    assert str(run_error(full)).startswith("the workers gave up (OutOfDiskError: no room); ")
