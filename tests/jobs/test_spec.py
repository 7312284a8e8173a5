"""The job file: what it accepts, and that every refusal names the field and the fix."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.init import job_template
from jobs.spec import load_spec, parse_spec
from operators.degradations.registry import build_operator
from operators.solvers.registry import METHODS
from pipeline.errors import SpecError
from pipeline.restore_fit import NEEDS, lacking, misfit

BASE = {"name": "batch-7", "source": "in/*.mp4", "output": "out"}
SR = {"kind": "super_resolution", "scale": 4, "noise": 0.02}
HALF = {"kind": "super_resolution", "scale": 2}
EIGHTH = {"kind": "super_resolution", "scale": 8}
SOFT = {"kind": "deblur", "kernel": "disk", "radius": 1.5}
LENS = {"kind": "deblur", "kernel": "lens", "sigma": 1, "sigma_edge": 2}


def restore(degradation: Any, **solver: Any) -> dict[str, Any]:
    return {"restore": {"degradation": degradation, **({"solver": solver} if solver else {})}}


def stylize(**members: Any) -> dict[str, Any]:
    return {"stylize": {"reference": "/styles/ink.png", **members}}


def refusal(**changes: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_spec({**BASE, **changes}, origin="job.yaml")
    return caught.value


def test_the_smallest_job_gets_the_pipelines_own_defaults() -> None:
    settings = parse_spec(BASE).to_settings()
    assert settings.consistency == type(settings.consistency)()
    assert settings.encode == type(settings.encode)()
    assert settings.cluster == type(settings.cluster)()
    assert settings.limits == type(settings.limits)()
    assert settings.model == "embedded"
    assert settings.enhance == ()


def test_the_signer_is_named_by_paths_in_the_job_or_in_the_environment(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.delenv(f"REELWEAVE_C2PA_{name}", raising=False)
    assert not parse_spec(BASE).to_settings().provenance.signs
    monkeypatch.setenv("REELWEAVE_C2PA_CERTIFICATE", "/run/signer/chain.pem")
    monkeypatch.setenv("REELWEAVE_C2PA_KEY", "/run/signer/key.pem")
    named = parse_spec({**BASE, "provenance": {"key": "key.pem"}})
    how = named.to_settings().provenance
    assert (how.certificate, how.key) == ("/run/signer/chain.pem", str(tmp_path / "key.pem"))
    assert "/run/signer" not in named.to_yaml()
    assert how.signs
    assert not parse_spec({**BASE, "encode": {"codec": "copy"}}).to_settings().provenance.signs


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"provenance": {"key": "-----BEGIN PRIVATE KEY-----"}}, "provenance.key", "the path of a file"),
        ({"provenance": {"key": "s3://keys/key.pem"}}, "provenance.key", "mount it there"),
        ({"provenance": {"c2pa": "on"}}, "provenance.c2pa", "'embed', 'sidecar' or 'off'"),
        (
            {"provenance": {"c2pa": "embed"}, "encode": {"codec": "copy"}},
            "provenance.c2pa",
            "the sources' own bytes",
        ),
    ],
)
def test_a_signer_that_is_no_path_is_refused(changes: dict[str, Any], field: str, why: str) -> None:
    error = refusal(**changes)
    assert error.field == field
    assert why in str(error)
    assert "BEGIN" not in str(error)


def test_relative_local_places_become_absolute_and_urls_stay(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    item = {"stylize": {"reference": "ink.png"}}
    mask = restore({"kind": "inpainting", "mask": "m/hole.png"})
    source = ["clips/**/*.mp4", "s3://catalog/in/**/*.mp4"]
    settings = parse_spec({**BASE, "source": source, "enhance": [item, mask]}).to_settings()
    assert settings.source == (f"{tmp_path}/clips/**/*.mp4", "s3://catalog/in/**/*.mp4")
    assert settings.output == f"{tmp_path}/out"
    assert settings.enhance[0]["stylize"]["reference"] == f"{tmp_path}/ink.png"
    assert settings.enhance[1]["restore"]["degradation"]["mask"] == f"{tmp_path}/m/hole.png"


def test_a_local_model_folder_becomes_absolute_and_a_hub_id_stays(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert parse_spec({**BASE, "model": "models/mine"}).model == f"{tmp_path}/models/mine"
    assert parse_spec({**BASE, "model": "./other"}).model == f"{tmp_path}/other"
    assert parse_spec({**BASE, "model": "someone/sd15"}).model == "someone/sd15"


def test_enhance_items_are_written_out_with_every_default_and_are_plain_json() -> None:
    items = [restore(SR), stylize(strength=0.5)]
    got = parse_spec({**BASE, "enhance": items}).to_settings().enhance
    assert json.loads(json.dumps(got)) == list(got)
    assert got[0] == {
        "restore": {
            "degradation": {"kind": "super_resolution", "scale": 4, "kernel": "area", "noise": 0.02},
            "solver": {"name": "dpir"},
        }
    }
    method = got[1]["stylize"]["method"]
    assert method["steps"] == 10
    assert method["shift"] == pytest.approx(math.log(2))
    assert method["adain"] is True
    assert method["statistics"] == 1.0


DEGRADATIONS: list[dict[str, Any]] = [
    {"kind": "denoise", "noise": 0.1},
    {"kind": "super_resolution", "scale": 3, "kernel": "bicubic"},
    {"kind": "inpainting", "boxes": [[0, 0, 8, 8], [10, 12, 1, 1]], "noise": 0.01},
    {"kind": "inpainting", "mask": "s3://masks/hole.png"},
    {"kind": "deblur", "kernel": "gaussian", "sigma": 1.5, "padding": "circular"},
    {"kind": "deblur", "kernel": "motion", "length": 9, "angle": 30.0, "noise": 0},
    {"kind": "deblur", "kernel": "anisotropic", "sigma": 2, "sigma_across": 0.5, "angle": 10},
    {"kind": "deblur", "kernel": "disk", "radius": 2.5},
    {"kind": "deblur", "kernel": "box", "side": 4},
    {"kind": "deblur", "kernel": "lens", "sigma": 1, "sigma_edge": 2},
    {"kind": "super_resolution", "scale": 7},
    {
        "kind": "composition",
        "parts": [
            {"kind": "deblur", "kernel": "gaussian", "sigma": 1.2},
            {"kind": "super_resolution", "scale": 2, "kernel": "bicubic"},
        ],
        "noise": 0.02,
    },
    {
        "kind": "composition",
        "parts": [
            {"kind": "super_resolution", "scale": 3},
            {"kind": "deblur", "kernel": "motion", "length": 3, "angle": 20},
        ],
    },
    {"kind": "inpainting", "random": {"share": 0.5, "seed": 3}},
    {"kind": "inpainting", "stripes": {"period": 8, "width": 2, "orientation": "vertical"}},
    {"kind": "shot_noise", "peak": 100},
    {"kind": "salt_and_pepper", "fraction": 0.05, "noise": 0.01},
    {"kind": "destriping", "longest_period": 12},
    {"kind": "colorization", "weights": "mean"},
    {"kind": "jpeg", "quality": 20, "chroma": "4:4:4"},
    {"kind": "clipping", "gain": 1.5, "noise": 0.01},
]


@pytest.mark.parametrize("degradation", DEGRADATIONS)
@pytest.mark.parametrize("solver", [{"name": "dpir"}, {"name": "psld", "omega": 0.5, "gamma": 0.0}])
def test_every_degradation_with_a_solver_survives_being_written_and_read(
    degradation: Any, solver: Any
) -> None:
    if misfit(solver["name"], degradation):
        solver = {"name": "ldps" if degradation["kind"] == "deblur" else "diffpir"}
    spec = parse_spec({**BASE, "enhance": [restore(degradation, **solver)]})
    again = parse_spec(json.loads(spec.model_dump_json(exclude_none=True)))
    assert again == spec
    assert spec.to_settings().enhance[0]["restore"]["solver"]["name"] == solver["name"]


@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_every_degradation_of_a_job_file_is_one_that_the_operators_know(degradation: Any) -> None:
    settings = parse_spec(
        {**BASE, "enhance": [restore(degradation, name="ldps" if "sigma_edge" in degradation else "diffpir")]}
    ).to_settings()
    written = settings.enhance[0]["restore"]["degradation"]
    side = 16 * written.get("scale", 1)
    operator = build_operator(written, 3 * side, 2 * side, {"mask": np.ones((3 * side, 2 * side), np.uint8)})
    assert operator.scale == written.get("scale", 1)
    assert operator.noise_model.unit_sigma == pytest.approx(
        math.sqrt(0.5 / written["peak"]) if "peak" in written else written.get("noise", 0.0)
    )
    assert operator.frames is None
    assert not operator.couples_frames
    flags = ("linear", "differentiable", "has_adjoint", "has_pinv", "has_prox", "complete")
    missing = {flag for flag in flags if not getattr(operator, flag)}
    missing |= set() if hasattr(operator, "kernel") else {"kernel"}
    assert lacking(written["kind"], written.get("kernel")) == missing


def test_what_a_solver_needs_is_what_its_method_says() -> None:
    assert {name: method.needs for name, method in METHODS.items()} == NEEDS


@pytest.mark.parametrize(
    ("degradation", "solver", "words"),
    [
        (
            {"kind": "jpeg", "quality": 20},
            {"name": "ddnm"},
            "needs a linear degradation, and jpeg is none",
        ),
        ({"kind": "clipping"}, {"name": "treg"}, "use one of dpir, psld, ldps"),
        (
            {"kind": "deblur", "kernel": "lens", "sigma": 1, "sigma_edge": 2},
            {"name": "diffpir"},
            "closed form, and deblur with kernel lens is none; use one of ldps, dps_nojac, stsl",
        ),
        (
            {"kind": "salt_and_pepper", "fraction": 0.1},
            {"name": "psld"},
            "all of whose pixels count, and salt_and_pepper is none; use one of dpir, diffpir, video_latent",
        ),
        (
            {"kind": "deblur", "kernel": "gaussian", "sigma": 1},
            {"name": "blind_dps"},
            "given by its kernel (motion, disk or anisotropic), and deblur with kernel gaussian is none",
        ),
    ],
)
def test_a_solver_that_cannot_undo_the_degradation_is_refused_with_those_that_can(
    degradation: Any, solver: Any, words: str
) -> None:
    error = refusal(enhance=[restore(degradation, **solver)])
    assert error.facts["field"] == "enhance.0.restore.solver"
    assert words in str(error)
    names = str(error).split("use one of ")[1].split(", ")
    for name in names:
        if NEEDS[name] != ("kernel",):
            parse_spec({**BASE, "enhance": [restore(degradation, name=name)]})


def test_two_super_resolution_stages_are_accepted() -> None:
    spec = parse_spec({**BASE, "enhance": [restore({**SR, "scale": 2}), restore({**SR, "scale": 2})]})
    assert len(spec.enhance) == 2


def test_sharing_without_any_enhancement_is_harmless() -> None:
    spec = parse_spec({**BASE, "enhance": [], "consistency": {"sharing": "anchors"}})
    assert spec.consistency.sharing == "anchors"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"enhanse": []}, "enhanse", "did you mean 'enhance'"),
        ({"seed": "seven"}, "seed", "a whole number, found the text 'seven'"),
        ({"seed": 7.5}, "seed", "a whole number"),
        ({"seed": True}, "seed", "found true"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"name": "a/../b"}, "name", "letters, digits"),
        ({"name": ""}, "name", "letters, digits"),
        ({"source": []}, "source", "must not be empty"),
        ({"source": ""}, "source", "found an empty one"),
        ({"source": ["a.mp4", " "]}, "source.1", "found an empty one"),
        ({"source": 5}, "source", "a list"),
        ({"source": ["a.mp4", 3]}, "source.1", "text"),
        ({"source": "s3://me:pw@bucket/x"}, "source", "environment"),
        ({"output": None}, "output", "text, found nothing"),
        ({"output": "out/*"}, "output", "remove the wildcard"),
        ({"output": "a\0b"}, "output", "NUL"),
        ({"model": ""}, "model", "must not be empty"),
        ({"precision": "fp8"}, "precision", "'fp16'"),
        ({"enhance": {"restore": {}}}, "enhance", "expected a list"),
        ({"enhance": [restore(SR)], "encode": {"codec": "copy"}}, "enhance", "set enhance: []"),
        ({"encode": {"codec": "copy", "container": "mkv"}}, "encode.container", "set it to auto"),
        ({"encode": {"codec": "h264_nvenc", "container": "webm"}}, "encode.container", "mp4 or mkv"),
        ({"encode": {"codec": "hevc_nvenc", "crf": 52}}, "encode.crf", "at most 51 for hevc_nvenc"),
        ({"enhance": ["restore"]}, "enhance.0", "a mapping"),
        ({"enhance": [{}]}, "enhance.0", "neither of restore and stylize"),
        ({"enhance": [{**restore(SR), **stylize()}]}, "enhance.0", "both of restore and stylize"),
        ({"enhance": [restore({"kind": "denoise"})]}, "enhance.0.restore.degradation.noise", "is required"),
        (
            {"enhance": [restore({"kind": "denoise", "noise": 0})]},
            "enhance.0.restore.degradation.noise",
            "more than 0",
        ),
        ({"enhance": [restore({"kind": "denoize"})]}, "enhance.0.restore.degradation", "'denoise'?"),
        ({"enhance": [restore({"noise": 0.1})]}, "enhance.0.restore.degradation", "needs the key 'kind'"),
        ({"enhance": [restore({**SR, "scale": 17})]}, "enhance.0.restore.degradation.scale", "at most 16"),
        ({"enhance": [restore({**SR, "noise": 1.0})]}, "enhance.0.restore.degradation.noise", "less than 1"),
        ({"enhance": [restore({**SR, "noise": 25})]}, "enhance.0.restore.degradation.noise", "less than 1"),
        ({"enhance": [restore({**SR, "kernl": "area"})]}, "enhance.0.restore.degradation.kernl", "'kernel'?"),
        ({"enhance": [restore({"kind": "inpainting"})]}, "enhance.0.restore.degradation", "none of mask"),
        (
            {"enhance": [restore({"kind": "inpainting", "mask": "m.png", "boxes": [[0, 0, 1, 1]]})]},
            "enhance.0.restore.degradation",
            "mask and boxes; give exactly one",
        ),
        (
            {"enhance": [restore({"kind": "inpainting", "boxes": [[1, 2, 3]]})]},
            "enhance.0.restore.degradation.boxes.0.3",
            "is required",
        ),
        (
            {"enhance": [restore({"kind": "inpainting", "boxes": [[0, 0, 0, 4]]})]},
            "enhance.0.restore.degradation.boxes.0.2",
            "at least 1",
        ),
        (
            {"enhance": [restore({"kind": "deblur", "kernel": "motion"})]},
            "enhance.0.restore.degradation.length",
            "is required",
        ),
        (
            {"enhance": [restore({"kind": "deblur", "kernel": "gaussian", "sigma": 1, "length": 3})]},
            "enhance.0.restore.degradation.length",
            "unknown key",
        ),
        *(
            ({"enhance": [restore(degradation)]}, f"enhance.0.restore.degradation{field}", words)
            for degradation, field, words in (
                ({"kind": "shot_noise"}, ".peak", "is required"),
                ({"kind": "shot_noise", "peak": 0}, ".peak", "at least 1"),
                ({"kind": "salt_and_pepper", "fraction": 1}, ".fraction", "at most 0.9"),
                ({"kind": "inpainting", "random": {"share": 1}}, ".random.share", "less than 1"),
                (
                    {"kind": "inpainting", "stripes": {"period": 4, "width": 4}},
                    ".stripes.width",
                    "use 1 to 3",
                ),
                ({"kind": "deblur", "kernel": "box", "side": 1}, ".side", "at least 2"),
                ({"kind": "deblur", "kernel": "disc", "radius": 1}, "", "did you mean 'disk'"),
                ({"kind": "deblur", "kernel": "lens", "sigma": 1}, ".sigma_edge", "is required"),
                ({"kind": "destriping", "orientation": "up"}, ".orientation", "'vertical'"),
                ({"kind": "colorization", "weights": "green"}, ".weights", "'mean'"),
                ({"kind": "composition", "parts": [SR]}, ".parts", "at least 2"),
                ({"kind": "composition", "parts": [SR, SR]}, ".parts.0.noise", "added once"),
                ({"kind": "composition", "parts": [SOFT, HALF], "scale": 4}, ".scale", "shrink by 2"),
                ({"kind": "composition", "parts": [LENS, HALF]}, ".parts.0.kernel", "cannot be a part"),
                ({"kind": "composition", "parts": [HALF, {"kind": "jpeg"}]}, ".parts.1", "'deblur'"),
                ({"kind": "composition", "parts": [HALF] * 5}, ".parts", "at most 4"),
                (
                    {"kind": "composition", "parts": [EIGHTH, HALF, HALF]},
                    ".parts",
                    "shrink by 32; at most 16",
                ),
                ({"kind": "jpeg", "quality": 0}, ".quality", "at least 1"),
                ({"kind": "jpeg", "quality": 50, "noise": 0.1}, ".noise", "unknown key"),
                ({"kind": "clipping", "gain": 17}, ".gain", "at most 16"),
            )
        ),
        ({"enhance": [restore(SR, name="dpir", steps=51)]}, "enhance.0.restore.solver.steps", "at most 50"),
        ({"enhance": [restore(SR, name="dpir", omega=1)]}, "enhance.0.restore.solver.omega", "unknown key"),
        ({"enhance": [restore(SR, name="ldps", eta=1.5)]}, "enhance.0.restore.solver.eta", "1"),
        ({"enhance": [restore(SR, name="psld", strength=0.0)]}, "enhance.0.restore.solver.strength", "0"),
        ({"enhance": [restore(SR, name="ddrm")]}, "enhance.0.restore.solver", "'dpir', 'psld'"),
        ({"enhance": [stylize(strength=0)]}, "enhance.0.stylize.strength", "more than 0"),
        ({"enhance": [stylize(strength=1.01)]}, "enhance.0.stylize.strength", "at most 1"),
        ({"enhance": [stylize(prompt="ink wash")]}, "enhance.0.stylize.prompt", "reads no text"),
        ({"enhance": [stylize(guidance=3)]}, "enhance.0.stylize.guidance", "needs a prompt"),
        ({"enhance": [{"stylize": {}}]}, "enhance.0.stylize.reference", "is required"),
        ({"consistency": {"sharing": "anchors", "merge": 0.5}}, "consistency.merge", "sharing: knots"),
        ({"consistency": {"sharing": "none", "fusion": 0.5}}, "consistency.fusion", "set fusion: 0"),
        (
            {"consistency": {"sharing": "sparse_causal", "frames_per_batch": 2}},
            "consistency.frames_per_batch",
            "set it to 1",
        ),
        ({"consistency": {"sharing": "knot"}}, "consistency.sharing", "did you mean 'knots'"),
        ({"consistency": {"anchors": 0}}, "consistency.anchors", "at least 1"),
        ({"consistency": {"knot_every": 1}}, "consistency.knot_every", "at least 2"),
        ({"consistency": {"knots": "evn"}}, "consistency.knots", "did you mean 'even'"),
        ({"consistency": {"knots_per_chunk": 0}}, "consistency.knots_per_chunk", "at least 1"),
        ({"consistency": {"noise": {"rho": 1.5}}}, "consistency.noise.rho", "at most 1"),
        ({"consistency": {"noise": 0.8}}, "consistency.noise", "a mapping"),
        (
            {"consistency": {"sharing": "anchors", "noise": {"warp": True}}},
            "consistency.noise.warp",
            "use knots",
        ),
        ({"encode": {"codec": "x264"}}, "encode.codec", "did you mean 'libx264'"),
        ({"encode": {"container": "webm"}}, "encode.container", "webm cannot carry libx264"),
        ({"encode": {"codec": "ffv1", "container": "mp4"}}, "encode.container", "use container mkv"),
        ({"encode": {"crf": 52}}, "encode.crf", "at most 51 for libx264"),
        ({"encode": {"codec": "libsvtav1", "crf": 64}}, "encode.crf", "at most 63"),
        ({"encode": {"preset": "quick"}}, "encode.preset", "'ultrafast'"),
        ({"encode": {"threads": 0}}, "encode.threads", "at least 1"),
        ({"cluster": {"actors": [3, 2]}}, "cluster.actors", "swap them"),
        ({"cluster": {"actors": [0, 2]}}, "cluster.actors.0", "at least 1"),
        ({"cluster": {"actors": 2}}, "cluster.actors", "a list"),
        ({"cluster": {"gpus_per_actor": math.inf}}, "cluster.gpus_per_actor", "found inf"),
        ({"limits": {"max_pixels": 0}}, "limits.max_pixels", "at least 1"),
        ({"limits": {"max_seconds": math.nan}}, "limits.max_seconds", "finite"),
        ({"torch_threads": 0}, "torch_threads", "at least 1"),
        ({"storage": {"endpoint_url": "localhost:9000"}}, "storage.endpoint_url", "http://localhost:9000"),
        ({"storage": {"endpoint_url": "http://me:pw@host"}}, "storage.endpoint_url", "environment"),
        ({"storage": {"endpoint_url": "http://host:port"}}, "storage.endpoint_url", "expected a URL"),
        ({"storage": {"key": "AKIA"}}, "storage.key", "environment"),
        ({"storage": {"client_kwargs": {"aws_secret": "x"}}}, "storage.client_kwargs.aws_secret", "remove"),
        ({"storage": {"session": [{"Token": "x"}]}}, "storage.session.Token", "environment"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_field_and_the_fix(
    changes: dict[str, Any], field: str, words: str
) -> None:
    error = refusal(**changes)
    assert error.field == field
    assert words in str(error)
    assert str(error).startswith("job.yaml: ")
    assert "pydantic" not in str(error)
    assert "\n" not in str(error)


def test_a_refused_credential_is_not_repeated_in_the_message() -> None:
    assert "hunter2" not in str(refusal(storage={"password": "hunter2"}))
    assert "hunter2" not in str(refusal(storage={"endpoint_url": "http://me:hunter2@host"}))
    assert "hunter2" not in str(refusal(output="s3://me:hunter2@bucket/x"))


def test_all_problems_of_a_job_are_listed_at_once() -> None:
    error = refusal(seed="x", encode={"crf": -1}, consistency={"knot_every": 0})
    assert [p["field"] for p in error.facts["problems"]] == ["seed", "consistency.knot_every", "encode.crf"]
    assert error.field == "seed"
    assert "3 problems" in str(error)


def test_a_job_that_was_written_out_loads_as_the_same_job(tmp_path: Path) -> None:
    storage = {"endpoint_url": "http://h:1", "anon": True}
    spec = parse_spec({**BASE, "name": "1e-3", "storage": storage, "enhance": [restore(SR)]})
    (tmp_path / "again.yaml").write_text(spec.to_yaml())
    assert load_spec(tmp_path / "again.yaml") == spec


def test_specs_are_frozen() -> None:
    spec = parse_spec(BASE)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 9  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.to_settings().seed = 9  # type: ignore[misc]


def job_file(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_overrides_reach_mappings_lists_and_sections_that_are_not_written(tmp_path: Path) -> None:
    path = job_file(tmp_path, job_template())
    overrides = [
        "enhance.0.restore.solver.steps=9",
        "encode={codec: ffv1, container: mkv}",
        "cluster.actors=[2, 3]",
        "storage.endpoint_url=http://localhost:9000",
        "consistency.noise.rho=1e-1",
        "name='7'",
    ]
    spec = load_spec(path, overrides)
    assert spec.to_settings().enhance[0]["restore"]["solver"]["steps"] == 9
    assert (spec.encode.codec, spec.encode.crf) == ("ffv1", 18)
    assert spec.cluster.actors == (2, 3)
    assert spec.storage.endpoint_url == "http://localhost:9000"
    assert spec.consistency.noise.rho == 0.1
    assert spec.name == "7"


def test_a_later_override_wins(tmp_path: Path) -> None:
    path = job_file(tmp_path, job_template())
    assert load_spec(path, ["encode.crf=1", "encode.crf=2"]).encode.crf == 2


@pytest.mark.parametrize(
    ("override", "field", "words"),
    [
        ("encode.crf", "encode.crf", "a path and a value"),
        ("=3", "--set", "a path and a value"),
        ("a..b=3", "a..b", "a path and a value"),
        ("enhance.1.restore=3", "enhance.1.restore", "list of 1"),
        ("enhance.x=3", "enhance.x", "list of 1"),
        ("enhance.-1=3", "enhance.-1", "list of 1"),
        ("seed.deep=3", "seed.deep", "single value"),
        ("seed=[1", "seed", "not valid YAML"),
        ("encode={crf: 1, crf: 2}", "encode", "twice"),
        ("encode.crf=high", "encode.crf", "a whole number"),
    ],
)
def test_a_bad_override_is_refused_by_name(tmp_path: Path, override: str, field: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(job_file(tmp_path, job_template()), [override])
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(("escaped", "name"), [(r'"\ud83c\udfac"', "\U0001f3ac"), (r'"\ud83c"', None)])
def test_pairs_of_escapes_are_one_character_and_halves_are_refused(escaped: str, name: str | None) -> None:
    from jobs.yaml_source import parse_yaml

    if name is not None:
        assert parse_yaml(escaped, field="x", origin="x") == name
        return
    with pytest.raises(SpecError, match="surrogate"):
        parse_yaml(escaped, field="x", origin="x")


_DEGRADED = {"restore": {"degradation": {"kind": "denoise", "noise": 0.1}}}


@given(st.text(max_size=40))
def test_any_override_text_either_loads_or_is_a_spec_error(override: str) -> None:
    _load_or_refuse(override)


@given(
    st.lists(st.sampled_from(["enhance", "0", "restore", "encode", "storage"]), min_size=1, max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_override_value_at_any_path_either_loads_or_is_a_spec_error(parts: list[str], value: Any) -> None:
    _load_or_refuse(f"{'.'.join(parts)}={json.dumps(value)}")


def _load_or_refuse(override: str) -> None:
    from jobs.yaml_source import apply_override

    data: dict[str, Any] = json.loads(json.dumps({**BASE, "enhance": [_DEGRADED]}))
    try:
        apply_override(data, override)
        spec = parse_spec(data)
    except SpecError as error:
        told = (error.field, str(error))
    else:
        told = (spec.name, spec.to_settings().output)
    assert all(told)


@given(
    st.integers(0, 63),
    st.sampled_from(
        ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "av1_nvenc", "copy"]
    ),
    st.sampled_from(["auto", "mp4", "mkv", "mov", "webm"]),
)
def test_what_encode_accepts_survives_being_written_and_read(crf: int, codec: str, container: str) -> None:
    from jobs.yaml_source import parse_yaml

    encode = {"crf": crf, "codec": codec, "container": container}
    try:
        spec = parse_spec({**BASE, "encode": encode})
    except SpecError as error:
        refused = error.field
    else:
        refused = ""
        assert parse_spec(parse_yaml(spec.to_yaml(), field="", origin="")) == spec
    assert refused in ("", "encode.crf", "encode.container")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not valid YAML in line 1"),
        ("name: a\nname: b\n", "the key 'name' appears twice"),
        ("encode: {crf: 1, crf: 2}", "the key 'crf' appears twice"),
        ("- a\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: &x 1\nb: *x\n", "aliases are not supported"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("? [a]\n: b\n", "a key must be a single word"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: \x07", "not valid YAML"),
        ("x: " + "y" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_plain_yaml_mapping_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(job_file(tmp_path, text))
    assert words in str(caught.value)
    assert caught.value.field == str(tmp_path / "job.yaml")


def test_a_missing_binary_or_unreadable_job_file_is_refused_by_name(tmp_path: Path) -> None:
    binary = tmp_path / "clip.mp4"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    missing = tmp_path / "none.yaml"
    for path, words in ((missing, "no such job file"), (binary, "UTF-8"), (tmp_path, "cannot be read")):
        with pytest.raises(SpecError, match=words):
            load_spec(path)


def test_yaml_words_mean_what_they_look_like(tmp_path: Path) -> None:
    text = "name: 2024-01-01\nsource: no\noutput: on\nconsistency: {noise: {rho: 5e-1}}\nseed: 010\n"
    spec = load_spec(job_file(tmp_path, text))
    assert spec.name == "2024-01-01"
    assert spec.source[0].endswith("/no")
    assert spec.consistency.noise.rho == 0.5
    assert spec.seed == 10


def test_a_prompted_restoration_is_guided_by_one_of_two_rules() -> None:
    item = restore(SR, name="treg")
    item["restore"] |= {"prompt": "an old film", "guidance": 0.6, "rule": "cfgpp"}
    (got,) = parse_spec({**BASE, "enhance": [item]}).to_settings().enhance
    assert (got["restore"]["prompt"], got["restore"]["rule"]) == ("an old film", "cfgpp")
    assert got["restore"]["solver"] == {"name": "treg", "strength": 0.3, "last_fit": True}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"guidance": 5.0}, "needs a prompt"),
        ({"prompt": "film", "rule": "cfgpp"}, "needs guidance"),
        ({"prompt": "film", "rule": "cfgpp", "guidance": 5.0}, "above 1"),
        ({"prompt": "film", "guidance": 0.6}, "rule: cfgpp"),
    ],
)
def test_guidance_that_does_not_fit_its_rule_is_refused(extra: dict[str, Any], words: str) -> None:
    item = restore(SR, name="treg")
    item["restore"] |= extra
    assert words in refusal(enhance=[item]).args[0]


@pytest.mark.parametrize(
    ("degradation", "extra", "words"),
    [
        (SR, {}, "reads a prompt in holes, and super_resolution leaves none"),
        ({"kind": "inpainting", "boxes": [[0, 0, 8, 8]]}, {"guidance": 5.0}, "leave guidance and rule out"),
        ({"kind": "inpainting", "boxes": [[0, 0, 8, 8]]}, {}, ""),
        ({"kind": "auto"}, {}, ""),
    ],
)
def test_a_prompt_that_dreamsampler_would_not_read_is_refused(
    degradation: dict[str, Any], extra: dict[str, Any], words: str
) -> None:
    item = restore(degradation, name="dreamsampler")
    item["restore"] |= {"prompt": "film", **extra}
    if words:
        assert words in refusal(enhance=[item]).args[0]
    else:
        parse_spec({**BASE, "enhance": [item]})
