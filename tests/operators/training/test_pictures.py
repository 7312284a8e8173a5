"""Reading a training set: what is refused by name, what counts once, and which pictures are held out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from operators.errors import TrainingError
from operators.training.pictures import (
    FEWEST,
    FEWEST_HELD_OUT,
    HELD_OUT_SHARE,
    Picture,
    TrainingSet,
    as_signed,
    largest_side,
    read_training_set,
)
from tests.support.training_pictures import synthetic_picture, write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", FEWEST)


def refused(folder: Path, *texts: str | Path) -> None:
    with pytest.raises(TrainingError) as caught:
        read_training_set(folder)
    assert all(str(text) in str(caught.value) for text in texts), caught.value
    assert "\n" not in str(caught.value)


def names(pictures: tuple[Picture, ...]) -> set[str]:
    return {picture.name for picture in pictures}


def test_a_missing_folder_and_a_file_in_its_place_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "absent", tmp_path / "absent", "not a folder")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", tmp_path / "file", "not a folder")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path, "holds 0 different pictures", f"at least {FEWEST}")


def test_too_few_pictures_are_refused_with_their_number(tmp_path: Path) -> None:
    write_pictures(tmp_path, FEWEST - 1)
    refused(tmp_path, f"holds {FEWEST - 1} different pictures")


def test_copies_do_not_make_up_for_too_few_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    for number in range(FEWEST):
        shutil.copy(tmp_path / "0000.png", tmp_path / f"copy{number}.png")
    refused(tmp_path, "holds 1 different pictures")


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.jpg", b"a text, no picture"), ("empty.png", b"")],
    ids=["text", "empty"],
)
def test_a_file_that_is_no_picture_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused(folder, folder / name, "damaged or no picture")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_truncated_picture_is_named(folder: Path, suffix: str) -> None:
    path = folder / f"half{suffix}"
    cv2.imwrite(str(path), synthetic_picture(99, 160, 160))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(folder, path, "damaged or no picture")


@pytest.mark.parametrize(("height", "width"), [(127, 300), (300, 127)])
def test_a_picture_with_a_short_side_is_named_with_its_size(folder: Path, height: int, width: int) -> None:
    cv2.imwrite(str(folder / "small.png"), synthetic_picture(99, height, width))
    refused(folder, folder / "small.png", f"{width}x{height}")


def test_transparency_is_refused_by_name(folder: Path) -> None:
    cv2.imwrite(str(folder / "clear.png"), np.zeros((130, 130, 4), np.uint8))
    refused(folder, folder / "clear.png", "4 channels")


def test_sixteen_bit_pictures_are_refused_by_name(folder: Path) -> None:
    cv2.imwrite(str(folder / "deep.png"), np.zeros((130, 130, 3), np.uint16))
    refused(folder, folder / "deep.png", "uint16", "8 bits")


def test_grey_pictures_count_as_grey_rgb_and_colours_come_in_the_order_red_green_blue(folder: Path) -> None:
    grey = synthetic_picture(99, 128, 140)[:, :, 0]
    cv2.imwrite(str(folder / "grey.png"), grey)
    found = read_training_set(folder)
    by_name = {picture.name: picture.levels[0] for picture in found.training + found.held_out}
    assert torch.equal(by_name["grey.png"], torch.from_numpy(grey).expand(3, -1, -1))
    # OpenCV writes the array as blue, green, red.
    expected = synthetic_picture(0, 128, 160)[:, :, ::-1].transpose(2, 0, 1)
    assert np.array_equal(by_name["0000.png"].numpy(), expected)


def test_files_of_other_kinds_and_folders_named_like_pictures_are_passed_over(folder: Path) -> None:
    before = read_training_set(folder)
    (folder / "notes.txt").write_text("x")
    (folder / "album.jpg").mkdir()
    assert read_training_set(folder).digest == before.digest


def test_copies_count_once_wherever_they_lie_and_are_never_on_both_sides(folder: Path) -> None:
    before = read_training_set(folder)
    (folder / "again").mkdir()
    for path in sorted(folder.glob("*.png")):
        shutil.copy(path, folder / "again" / f"copy-of-{path.name}")
    after = read_training_set(folder)
    assert after.digest == before.digest
    assert len(after.training) == len(before.training)
    assert len(after.held_out) == len(before.held_out)


def test_the_split_depends_on_contents_and_not_on_names(folder: Path, tmp_path: Path) -> None:
    before = read_training_set(folder)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, path in enumerate(sorted(folder.glob("*.png"), reverse=True)):
        shutil.copy(path, renamed / f"x{number}.png")
    after = read_training_set(renamed)
    assert after.digest == before.digest
    for old, new in ((before.training, after.training), (before.held_out, after.held_out)):
        assert all(torch.equal(a.levels[0], b.levels[0]) for a, b in zip(old, new, strict=True))


def write_many(folder: Path, count: int) -> TrainingSet:
    """``count`` of the smallest pictures, which differ in one pixel."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture = np.zeros((128, 128, 3), np.uint8)
        picture[0, 0] = (number % 256, number // 256, 1)
        cv2.imwrite(str(folder / f"{number:04}.png"), picture)
    return read_training_set(folder)


def test_more_pictures_move_none_between_training_and_held_out(tmp_path: Path) -> None:
    few, more = write_many(tmp_path, 300), write_many(tmp_path, 500)
    assert len(few.held_out) > FEWEST_HELD_OUT
    assert names(few.held_out) <= names(more.held_out)
    assert names(few.training) <= names(more.training)
    assert not names(more.training) & names(more.held_out)
    assert len(more.training) + len(more.held_out) == 500
    # Binomial with a standard deviation of 4.3.
    assert len(more.held_out) == pytest.approx(500 * HELD_OUT_SHARE, abs=15)


def test_a_small_set_holds_out_two(folder: Path) -> None:
    found = read_training_set(folder)
    assert (len(found.held_out), len(found.training)) == (FEWEST_HELD_OUT, FEWEST - FEWEST_HELD_OUT)


def test_any_change_of_a_picture_changes_the_digest_of_the_set(folder: Path) -> None:
    before = read_training_set(folder)
    picture = synthetic_picture(0, 128, 160)
    picture[0, 0, 0] ^= 1
    cv2.imwrite(str(folder / "0000.png"), picture)
    assert read_training_set(folder).digest != before.digest


@pytest.mark.parametrize(
    ("side", "levels"), [(128, 1), (255, 1), (256, 2), (383, 2), (384, 3), (400, 3)], ids=str
)
def test_levels_are_block_means_and_never_smaller_than_a_crop(folder: Path, side: int, levels: int) -> None:
    pixels = synthetic_picture(99, side, side + 11)
    cv2.imwrite(str(folder / "one.png"), pixels)
    found = read_training_set(folder)
    (picture,) = (p for p in found.training + found.held_out if p.name == "one.png")
    assert len(picture.levels) == levels
    assert picture.side == side
    for factor, level in enumerate(picture.levels, start=1):
        height, width = side // factor, (side + 11) // factor
        assert level.shape == (3, height, width)
        rgb = pixels[: height * factor, : width * factor, ::-1].astype(np.float64)
        means = rgb.reshape(height, factor, width, factor, 3).mean((1, 3)).transpose(2, 0, 1)
        assert np.abs(level.numpy() - means).max() <= 0.5


def picture_of(height: int, width: int) -> Picture:
    return Picture("p", (torch.zeros(3, height, width, dtype=torch.uint8),))


@pytest.mark.parametrize(
    ("sides", "largest"), [([128], 128), ([128, 512], 512), ([300, 128, 200], 200), ([1, 2, 3, 4], 3)]
)
def test_at_least_half_of_the_pictures_hold_the_largest_side(sides: list[int], largest: int) -> None:
    pictures = [picture_of(side, side + 7) for side in sides]
    assert largest_side(pictures) == largest
    assert sum(side >= largest for side in sides) >= len(sides) / 2


def test_the_centre_is_cut_from_the_middle_or_not_at_all() -> None:
    rows = torch.arange(10, dtype=torch.uint8)[None, :, None].expand(3, 10, 8)
    picture = Picture("p", (rows,))
    centre = picture.centre(4)
    assert centre is not None
    assert torch.equal(centre, as_signed([rows[:, 3:7, 2:6]]))
    assert picture.centre(8) is not None
    assert picture.centre(9) is None


def test_signed_values_span_minus_one_to_one() -> None:
    codes = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1)
    assert as_signed([codes]).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6], abs=1e-6)


def test_the_error_for_a_picture_in_a_subfolder_gives_its_whole_path(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "bad.tiff").write_bytes(b"II*\x00")
    with pytest.raises(TrainingError, match=re.escape(str(folder / "deep" / "bad.tiff"))):
        read_training_set(folder)
