"""Style references: read once by the driver, refused where they are no pictures of a look, and converted
aloud where they are stored in a way that models do not see."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.errors import SpecError
from pipeline.keys import digest

Picture = np.ndarray[Any, Any]

#: Pixels along the shorter side below which a picture has no look, and pixels beyond which it is not decoded.
SMALLEST, MOST_PIXELS = 32, 100_000_000
_MEGA = MOST_PIXELS // 1_000_000
#: What is opened; Pillow would run programs for others (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")


@dataclass(frozen=True)
class StylePictures:
    """The references of one stylization: ``pictures`` uint8 RGB [H, W, 3], ``weights`` (one each, summing to
    one), the ``digest`` of files and weights, and ``notes`` on what was converted, a sentence each."""

    pictures: tuple[Picture, ...]
    weights: tuple[float, ...]
    digest: str
    notes: tuple[str, ...] = ()


def references_of(stylize: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Places and weights of the references of a ``stylize`` mapping; () where it has none."""
    given = stylize.get("reference") or ()
    if isinstance(given, str):
        return ((given, 1.0),)
    return tuple((part["image"], part["weight"]) for part in given)


def load_style(
    stylize: Mapping[str, Any], where: str, read: Callable[[str, str], bytes]
) -> StylePictures | None:
    """Read the references of ``stylize``; None where it has none. ``read`` gives the bytes of a place, told
    the field. Raises SpecError naming the field, what was found and what would do."""
    references = references_of(stylize)
    if not references:
        return None
    total = sum(weight for _, weight in references)
    pictures: list[Picture] = []
    files: list[tuple[str, float]] = []
    notes: list[str] = []
    for number, (place, weight) in enumerate(references):
        field = where if len(references) == 1 else f"{where}.{number}.image"
        data = read(place, field)
        picture, converted = decoded(data, field)
        pictures.append(picture)
        files.append((hashlib.sha256(data).hexdigest(), weight / total))
        notes += converted
    own = files[0][0] if len(files) == 1 else digest(files)
    return StylePictures(tuple(pictures), tuple(share for _, share in files), own, tuple(notes))


def decoded(data: bytes, field: str) -> tuple[Picture, tuple[str, ...]]:
    """A reference as uint8 RGB [H, W, 3], and what was converted. Raises SpecError (``field``) for what is no
    single picture, too small, or too large to be decoded."""
    mode = _checked(data, field)
    buffer = np.frombuffer(data, np.uint8)
    whole, plain = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED), cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    if whole is None or plain is None:
        raise SpecError(f"{field}: not a picture that OpenCV reads; give a PNG or JPEG", field=field)
    picture = cv2.cvtColor(np.asarray(plain), cv2.COLOR_BGR2RGB)
    notes = []
    if mode == "CMYK":
        notes.append("CMYK, whose colours are converted to RGB without a profile")
    if whole.dtype != np.uint8:
        notes.append(f"{8 * whole.dtype.itemsize} bits per channel, of which the upper 8 are used")
    if whole.ndim == 3 and whole.shape[2] == 4:
        share = whole[..., 3:].astype(np.float64) / np.iinfo(whole.dtype).max
        if not share.any():
            raise SpecError(f"{field}: it is transparent all over; give a picture", field=field)
        if share.min() < 1.0:
            colours = whole[..., 2::-1] / np.iinfo(whole.dtype).max
            picture = np.rint(255 * (share * colours + 1 - share)).astype(np.uint8)
            notes.append("transparent parts, which are laid over white")
    return picture, tuple(f"{field} has {note}" for note in notes)


def _checked(data: bytes, field: str) -> str:
    """The mode of a still picture of a possible size, as Pillow names it; pixels are decoded last."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=_FORMATS) as image,
        ):
            for refused in _refusals(image):
                raise SpecError(f"{field}: {refused}", field=field)
            image.load()
            return str(image.mode)
    except Image.DecompressionBombError:
        raise SpecError(
            f"{field}: it has more than {MOST_PIXELS // 1_000_000} megapixels; give a smaller one",
            field=field,
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise SpecError(
            f"{field}: not a picture, or one that is cut off ({type(error).__name__}); give a PNG or JPEG",
            field=field,
        ) from error


def _refusals(image: Image.Image) -> Iterator[str]:
    width, height = image.size
    if width * height > MOST_PIXELS:
        yield f"it has {width}x{height} pixels, more than {_MEGA} megapixels; give a smaller one"
    if min(width, height) < SMALLEST:
        yield f"it has {width}x{height} pixels, too few to show a style; use at least {SMALLEST} on each side"
    frames = getattr(image, "n_frames", 1)
    # Cameras put previews behind the picture (MPO).
    if frames > 1 and image.format != "MPO":
        yield f"it is animated or has pages, {frames} in all; give one of them as a picture"
