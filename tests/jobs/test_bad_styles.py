"""What cannot be stylized is refused by `reelweave plan`, before any work, with what would work."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.errors import SpecError
from pipeline.style_pictures import decoded, load_style, references_of
from tests.jobs.media import write_clip
from tests.support.tiny_models import save_tiny_few_step, save_tiny_flow, save_tiny_sd


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, a reference and models of three kinds."""
    root = tmp_path_factory.mktemp("styles")
    write_clip(root / "in" / "a.mp4", width=64, height=48)
    cv2.imwrite(str(root / "ink.png"), colours())
    (root / "text.png").write_text("no picture")
    cv2.imwrite(str(root / "deep.png"), colours().astype(np.uint16) * 257)
    save_tiny_sd(root / "sd")
    save_tiny_few_step(root / "lcm")
    save_tiny_flow(root / "flow")
    return root


def colours(height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (height, width, channels), np.uint8)


def plan(place: Path, *, model: str = "embedded", consistency: Any = None, **stylize: Any) -> Result:
    if isinstance(stylize.get("reference"), str):
        stylize["reference"] = str(place / stylize["reference"])
    job = {
        "name": "refused",
        "source": str(place / "in" / "a.mp4"),
        "output": str(place / "out"),
        "model": model if model == "embedded" else str(place / model),
        "enhance": [{"stylize": stylize}],
        "consistency": consistency or {},
    }
    path = place / "job.yaml"
    path.write_text(json.dumps(job))
    found = CliRunner().invoke(app, ["plan", str(path), "--json"])
    assert "Traceback" not in found.stderr
    assert not (place / "out").exists()
    return found


INK: dict[str, Any] = {"reference": "ink.png"}
BY_PROMPT = {"method": {"name": "prompt"}, "prompt": "ink", "model": "sd"}


@pytest.mark.parametrize(
    ("job", "field", "words"),
    [
        ({"reference": "text.png"}, "reference", "give a PNG or JPEG"),
        ({"reference": "none.png"}, "reference", "cannot be read"),
        ({}, "reference", "is required by style_aligned"),
        ({**INK, "method": {"name": "prompt"}, "prompt": "ink"}, "reference", "reads no picture"),
        ({"method": {"name": "dreamsampler"}}, "prompt", "is required"),
        ({**INK, "method": {"name": "soc"}, "content": {"name": "bdia"}}, "content", "use one of ddim"),
        ({**INK, "method": {"name": "styleid"}, "content": {"name": "ddim"}}, "content", "leave content out"),
        ({**INK, "content": {"name": "flow_edit"}}, "content", "needs a flow model"),
        ({**INK, "content": {"name": "rf_edit"}, "model": "lcm"}, "content", "goes with content ddim, ddcm"),
        ({**INK, "content": {"name": "ddcm"}}, "content", "needs a few-step model"),
        ({**INK, "content": {"name": "edit_friendly"}, "model": "flow"}, "content", "flow_edit, rf_edit"),
        (
            {"method": {"name": "schroedinger_bridge"}, "prompt": "ink", "model": "flow"},
            "method",
            "needs a diffusion model",
        ),
        (
            {**INK, "content": {"name": "pinned"}, "consistency": {"sharing": "propagate"}},
            "content",
            "use sharing none, first_frame",
        ),
        (
            {**INK, "content": {"name": "pinned"}, "consistency": {"merge": 0.5}},
            "content",
            "set merge: 0, or structure: 0",
        ),
        (
            {**INK, "method": {"name": "rival"}, "consistency": {"sharing": "first_frame"}},
            "method",
            "in place of a frame's own keys",
        ),
        (
            {**INK, "method": {"name": "soc"}, "consistency": {"sharing": "none"}},
            "method",
            "there are none; use sharing first_frame",
        ),
        (
            {**INK, "content": {"name": "edict"}, "consistency": {"fusion": 0.5}},
            "content",
            "set consistency.fusion: 0",
        ),
        ({**INK, "method": {"name": "soc", "descriptor": "nowhere"}}, "method.descriptor", "CLIP vision"),
        ({**INK, "prompt": "ink", "model": "embedded"}, "prompt", "reads no text"),
        ({**BY_PROMPT, "prompt": "ink " * 80}, "prompt", "and the model reads 77"),
        (
            {**BY_PROMPT, "blend": [{"prompt": "in " * 90}], "guidance": 2.0},
            "blend.0.prompt",
            "shorten it by 105",
        ),
        ({**BY_PROMPT, "guidance": 2.0, "rule": "cfgpp"}, "guidance", "0.6 is usual"),
        ({**BY_PROMPT, "guidance": 0.6}, "guidance", "write 'rule: cfgpp'"),
        (
            {**BY_PROMPT, "guidance": 0.6, "rule": "cfgpp", "content": {"name": "edict"}},
            "rule",
            "cfgpp does not go with edict",
        ),
        ({**INK, "blend": [{"prompt": "oil"}]}, "blend", "needs a prompt"),
    ],
)
def test_a_stylization_that_cannot_be_exits_2_naming_the_field_and_what_would_work(
    job: dict[str, Any], field: str, words: str, place: Path
) -> None:
    found = plan(place, **job)
    assert found.exit_code == 2, found.stdout
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert f"enhance.0.stylize.{field}: " in found.stderr
    assert words in found.stderr


def test_a_converted_reference_and_draws_that_flicker_are_told_by_plan(place: Path) -> None:
    told = {"reference": "deep.png", "model": "sd", "content": {"name": "edit_friendly"}}
    found = plan(place, **told)
    assert found.exit_code == 0
    warnings = json.loads(found.stdout)["warnings"]
    assert any("16 bits per channel" in warning for warning in warnings)
    assert any("rho: 1 shares it" in warning for warning in warnings)
    exact = json.loads(plan(place, **INK, content={"name": "edict"}).stdout)["warnings"]
    assert any("exact with precision fp32 alone" in warning for warning in exact)
    assert json.loads(plan(place, **INK).stdout)["warnings"] == []


# --- pictures ----------------------------------------------------------------------------------------


def stored(picture: Image.Image, name: str, **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **how)
    return file.getvalue()


def still(mode: str = "RGB", side: int = 48) -> Image.Image:
    return Image.fromarray(colours(side, side)).convert(mode)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a picture"),
        (b"<svg></svg>", "not a picture"),
        (stored(still(), "PNG")[:900], "cut off"),
        (stored(still(side=31), "PNG"), "it has 31x31 pixels, too few"),
        (stored(still(), "GIF", save_all=True, append_images=[still("L")]), "animated or has pages, 2"),
        (stored(still(), "TIFF", save_all=True, append_images=[still()]), "animated or has pages, 2"),
        (stored(Image.new("1", (20_000, 6_000)), "PNG"), "20000x6000 pixels, more than 100 megapixels"),
        (stored(Image.new("1", (40_000, 6_000)), "PNG"), "more than 100 megapixels"),
        (stored(Image.new("RGBA", (64, 64)), "PNG"), "transparent all over"),
    ],
)
def test_what_is_no_single_picture_of_a_usable_size_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(SpecError, match=words) as found:
        decoded(data, "reference")
    assert str(found.value).startswith("reference: ")


def test_plain_pictures_are_read_as_they_are() -> None:
    for picture in (still(), still("L").convert("RGB")):
        found, notes = decoded(stored(picture, "PNG"), "reference")
        assert np.array_equal(found, np.asarray(picture))
        assert notes == ()


def test_sixteen_bits_cmyk_and_transparency_are_converted_aloud() -> None:
    deep = cv2.imencode(".png", colours().astype(np.uint16) * 257)[1].tobytes()
    found, notes = decoded(deep, "reference")
    assert np.array_equal(found[..., ::-1], colours())
    assert notes == ("reference has 16 bits per channel, of which the upper 8 are used",)

    found, (note,) = decoded(stored(Image.new("CMYK", (48, 48), (255, 0, 0, 0)), "JPEG"), "reference")
    assert "CMYK" in note
    red, green, blue = found.reshape(-1, 3).mean(0)
    assert red < 60 < 100 < min(green, blue)

    glass = Image.new("RGBA", (48, 48), (200, 0, 0, 255))
    glass.paste((200, 0, 0, 0), (0, 0, 24, 48))
    found, (note,) = decoded(stored(glass, "PNG"), "reference")
    assert "over white" in note
    assert [found[0, at].tolist() for at in (0, 40)] == [[255, 255, 255], [200, 0, 0]]
    assert decoded(stored(still("RGBA"), "PNG"), "reference")[1] == ()


def test_photographs_with_a_preview_behind_them_are_pictures() -> None:
    with_preview = stored(still(), "MPO", save_all=True, append_images=[still()])
    assert decoded(with_preview, "reference")[1] == ()


def test_a_bank_is_another_when_pictures_order_or_weights_are() -> None:
    files = {"a": stored(still("L"), "PNG"), "b": stored(still(), "PNG")}

    def named(*parts: tuple[str, float]) -> str:
        told = {"reference": [{"image": image, "weight": weight} for image, weight in parts]}
        style = load_style(told, "reference", lambda place, field: files[place])
        assert style is not None
        assert sum(style.weights) == pytest.approx(1.0)
        return style.digest

    both = named(("a", 1.0), ("b", 1.0))
    assert named(("a", 3.0), ("b", 3.0)) == both
    others = {named(("a", 2.0), ("b", 1.0)), named(("b", 1.0), ("a", 1.0)), named(("a", 1.0)), both}
    assert len(others) == 4
    assert load_style({}, "reference", lambda place, field: b"") is None


def test_one_reference_or_several_are_read_alike() -> None:
    assert references_of({"reference": "a.png"}) == (("a.png", 1.0),)
    assert references_of({"reference": [{"image": "a.png", "weight": 2.0}]}) == (("a.png", 2.0),)
    assert references_of({}) == ()
