"""Canonical JSON and the digests made of it."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.keys
from pipeline.keys import canonical_json, code_digest, digest, file_sha256, object_path
from pipeline.settings import EncodeSettings, JobSettings

text = st.text(st.characters(), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_json_is_json_that_means_the_same(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(text, values, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_keys_leaves_no_trace(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)


@given(values, values)
def test_different_values_have_different_bytes(a: Any, b: Any) -> None:
    # Python's own encoder tells 1 from 1.0 and from True, which == does not.
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    if same:
        assert canonical_json(a) == canonical_json(b)
    elif a != b:
        assert canonical_json(a) != canonical_json(b)


@given(st.fractions())
def test_fractions_are_exact(value: Fraction) -> None:
    expected = {"numerator": value.numerator, "denominator": value.denominator}
    assert json.loads(canonical_json(value)) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    with pytest.raises(ValueError, match=r"\$\.solver\[1\]\.noise"):
        canonical_json({"solver": [1, {"noise": bad}]})


@pytest.mark.parametrize("bad", [b"bytes", {1, 2}, object(), {"a": Path("/x")}, {1: "a"}, {True: 1}, int])
def test_what_json_cannot_say_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"\$"):
        canonical_json(bad)


@dataclass(frozen=True)
class _Inner:
    rate: Fraction
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Outer:
    inner: _Inner
    gain: float = -0.0


def test_nested_dataclasses_become_objects_and_minus_zero_becomes_zero() -> None:
    assert canonical_json(_Outer(_Inner(Fraction(24000, 1001), ("a", "☃")))) == (
        b'{"gain":0.0,"inner":{"names":["a","\\u2603"],"rate":{"denominator":1001,"numerator":24000}}}'
    )


def test_a_whole_job_has_a_digest_that_every_field_moves() -> None:
    job = JobSettings("a", 7, ("in/*.mp4",), "out")
    assert digest(job) == hashlib.sha256(canonical_json(job)).hexdigest()
    assert digest(JobSettings("a", 8, ("in/*.mp4",), "out")) != digest(job)
    assert digest(EncodeSettings(threads=2)) != digest(EncodeSettings())


def test_a_digest_is_the_same_in_another_process() -> None:
    code = "from pipeline.keys import digest; print(digest({'b': [1, 2.5, 'ü'], 'a': None}))"
    root = Path(pipeline.keys.__file__).parent.parent
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {digest({"a": None, "b": [1, 2.5, "ü"]})}


def test_a_file_is_hashed_whole(tmp_path: Path) -> None:
    data = b"x" * (3 << 20) + b"end"
    (tmp_path / "f").write_bytes(data)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_the_code_digest_follows_pixel_code_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("operators/solvers/a.py", "pipeline/video/b.py", "pipeline/plan.py", "pipeline/store.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(pipeline.keys, "__file__", str(tmp_path / "pipeline" / "keys.py"))

    def now() -> str:
        code_digest.cache_clear()
        return code_digest()

    try:
        digests = [now()]
        (tmp_path / "pipeline/store.py").write_text("x = 2\n")
        assert now() == digests[0]
        for name in ("operators/solvers/a.py", "pipeline/video/b.py", "pipeline/plan.py"):
            (tmp_path / name).write_text("x = 2\n")
            digests.append(now())
        (tmp_path / "operators/new.py").write_text("")
        digests.append(now())
        assert len(set(digests)) == 5
    finally:
        code_digest.cache_clear()


def test_objects_are_spread_over_folders_by_key() -> None:
    assert object_path("ab" + "0" * 62, ".mkv") == f".work/ab/ab{'0' * 62}.mkv"


def test_work_files_spread_evenly_over_prefixes() -> None:
    """S3 divides a bucket by key prefixes; a job's objects must not all fall into one division."""
    folders = Counter(object_path(digest(number), ".mkv").rpartition("/")[0] for number in range(8192))
    assert len(folders) == 256
    assert max(folders.values()) < 2 * 8192 / 256
