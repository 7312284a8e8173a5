"""A stage that frames are too small for is refused when their video is planned, and no other is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spec import parse_spec
from operators.degradations.registry import build_operator
from operators.errors import OperatorError
from pipeline.enhance_fit import require_fit
from pipeline.errors import SourceError
from pipeline.job_plan import plan_job
from pipeline.mask_clips import MaskSize
from tests.pipeline.video.media import Clip, make_clip


def stage(**degradation: Any) -> dict[str, Any]:
    """An ``enhance`` item as the pipeline gets it, with every default written out."""
    item: dict[str, Any] = {"restore": {"degradation": degradation}}
    if degradation.get("kernel") == "lens":
        item["restore"]["solver"] = {"name": "ldps"}
    spec = parse_spec({"name": "fit", "source": "in", "output": "out", "enhance": [item]})
    return dict(spec.to_settings().enhance[0])


WIDTHS = st.floats(0.3, 12.0)
KERNELS = st.one_of(
    st.builds(lambda s: {"kernel": "gaussian", "sigma": s}, WIDTHS),
    st.builds(lambda s, a: {"kernel": "anisotropic", "sigma": s, "sigma_across": a}, WIDTHS, WIDTHS),
    st.builds(
        lambda n, a: {"kernel": "motion", "length": n, "angle": a}, st.floats(1.5, 50.0), st.floats(0, 180)
    ),
    st.builds(lambda s, e: {"kernel": "lens", "sigma": s, "sigma_edge": e}, WIDTHS, WIDTHS),
    st.builds(lambda r: {"kernel": "disk", "radius": r}, st.floats(0.3, 25.0)),
    st.builds(lambda n: {"kernel": "box", "side": n}, st.integers(2, 50)),
)
DEGRADATIONS = st.one_of(
    KERNELS.map(lambda kernel: {"kind": "deblur", **kernel}),
    st.builds(lambda p: {"kind": "destriping", "longest_period": p}, st.floats(2.0, 100.0)),
    st.builds(
        lambda x, y, w, h: {"kind": "inpainting", "boxes": [[x, y, w, h]]},
        *(st.integers(low, 30) for low in (0, 0, 1, 1)),
    ),
)


@given(degradation=DEGRADATIONS, height=st.integers(17, 44), width=st.integers(17, 44))
@settings(max_examples=150, derandomize=True)
def test_the_plan_refuses_what_the_operators_refuse(degradation: Any, height: int, width: int) -> None:
    item = stage(**degradation)
    written = item["restore"]["degradation"]
    try:
        build_operator(written, height, width, {})
        works = True
    except OperatorError:
        works = False
    if works:
        require_fit((item,), width, height, {}, 9)
    else:
        with pytest.raises(SourceError) as caught:
            require_fit((item,), width, height, {}, 9)
        assert caught.value.code == "enhance_refused"
        assert f"{width}x{height}" in str(caught.value)


@pytest.mark.parametrize(
    "kernel",
    [
        {"kernel": "gaussian", "sigma": 50.0},
        {"kernel": "anisotropic", "sigma": 1.0, "sigma_across": 50.0},
        {"kernel": "lens", "sigma": 1.0, "sigma_edge": 50.0},
        {"kernel": "motion", "length": 300.0},
        {"kernel": "disk", "radius": 50.0},
        {"kernel": "box", "side": 300},
    ],
)
@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_the_width_that_a_refusal_names_does_fit(kernel: Any, size: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match="larger than the frame; use at most") as caught:
        require_fit((stage(kind="deblur", **kernel),), *size, {}, 9)
    field = str(caught.value).split("degradation.")[1].split(":")[0]
    named = float(str(caught.value).split("use at most ")[1].split(";")[0])
    fixed = {**kernel, field: int(named) if field == "side" else named}
    item = stage(kind="deblur", **fixed)
    require_fit((item,), *size, {}, 9)
    build_operator(item["restore"]["degradation"], *size, {})


def test_a_stage_after_an_enlargement_sees_the_larger_frames() -> None:
    wide = stage(kind="deblur", kernel="disk", radius=20.0)
    with pytest.raises(SourceError, match=r"enhance\.0\.restore\.degradation\.radius.*32x32"):
        require_fit((wide,), 32, 32, {}, 9)
    require_fit((stage(kind="super_resolution", scale=2), wide), 32, 32, {}, 9)


def test_the_parts_of_a_composition_see_the_sizes_at_which_they_happened() -> None:
    disk = {"kind": "deblur", "kernel": "disk", "radius": 20.0}
    half = {"kind": "super_resolution", "scale": 2}
    before, after = (stage(kind="composition", parts=parts) for parts in ([disk, half], [half, disk]))
    require_fit((before,), 32, 32, {}, 9)
    build_operator(before["restore"]["degradation"], 64, 64, {})
    with pytest.raises(SourceError, match=r"degradation\.parts\.1\.radius.*at most 15\.5"):
        require_fit((after,), 32, 32, {}, 9)
    with pytest.raises(OperatorError):
        build_operator(after["restore"]["degradation"], 64, 64, {})


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    item = {"restore": {"degradation": {"kind": "inpainting", "mask": "m.png"}}}
    require_fit((item,), 64, 48, {0: MaskSize(48, 64)}, 9)
    with pytest.raises(SourceError, match="has 48x64 pixels, the frames have 64x48") as caught:
        require_fit((item,), 64, 48, {0: MaskSize(64, 48)}, 9)
    assert caught.value.code == "mask_size"


def test_a_mask_video_of_another_length_is_refused_with_both_lengths() -> None:
    item = {"restore": {"degradation": {"kind": "inpainting", "mask": "m.mkv"}}}
    require_fit((item,), 64, 48, {0: MaskSize(48, 64, 9)}, 9)
    with pytest.raises(SourceError, match="has 10 frames, the video has 9") as caught:
        require_fit((item,), 64, 48, {0: MaskSize(48, 64, 10)}, 9)
    assert caught.value.code == "mask_frames"


def test_planning_rejects_the_videos_that_do_not_fit_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_clip(tmp_path / "in" / "wide.mp4", Clip(pts=range(0, 5120, 512), width=96, height=64))
    make_clip(tmp_path / "in" / "small.mp4", Clip(pts=range(0, 5120, 512), width=64, height=48))
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((64, 96), np.uint8))
    item = {"restore": {"degradation": {"kind": "inpainting", "mask": str(tmp_path / "mask.png")}}}
    spec = parse_spec(
        {"name": "fit", "source": f"{tmp_path}/in/*.mp4", "output": f"{tmp_path}/out", "enhance": [item]}
    )
    plan = plan_job(spec.to_settings())
    assert plan.videos == 2
    assert plan.frames == 10
    (refused,) = plan.rejected
    assert refused.uri.endswith("small.mp4")
    assert refused.code == "mask_size"
    assert not (tmp_path / "out").exists()
