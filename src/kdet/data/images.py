"""One image file → uint8 3×H×W RGB, whatever kind of image it is."""

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from kdet.errors import InputError

_SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "AVIF": (".avif", ".avifs"),
}
FORMATS = tuple(_SUFFIXES_OF)
"""What is decoded, whatever the file's name; PIL would also hand PostScript to an interpreter."""
SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES_OF.values() for suffix in suffixes)
"""Names that count as images wherever a folder is searched."""
_TURNED = {5, 6, 7, 8}


def read_image(path: Path, size_hw: tuple[int, int] | None = None) -> Tensor:
    """Read the image as it is shown.

    EXIF orientation is applied, grey and palette images become RGB, 16-bit values are scaled to 8, transparency is laid
    over black, and of an animation the first frame counts. Where annotations state a size (`size_hw`), it decides: an
    image that has it only before its EXIF rotation was annotated unrotated, and is read so.

    Returns:
        3×H×W uint8.

    Raises:
        InputError: not an image, truncated, too large to be one, or not of the stated size.
    """
    with opened(path) as image:
        shown_hw = _shown_hw(image)
        stored_hw = (image.height, image.width)
        if size_hw is not None and size_hw not in (shown_hw, stored_hw):
            raise InputError(
                f"{path}: the image is {shown_hw[1]}×{shown_hw[0]} px, its annotation says {size_hw[1]}×{size_hw[0]}; "
                "mend the stated size, or take the image that was annotated"
            )
        # `exif_transpose` copies an upright image as well.
        turn = _orientation(image) not in (None, 1) and (size_hw is None or size_hw == shown_hw)
        upright = ImageOps.exif_transpose(image) if turn else image
        pixels = np.array(_to_rgb(upright))
    return torch.from_numpy(pixels).permute(2, 0, 1)  # as it lies in memory: flips and resizes are faster so


def read_size_hw(path: Path) -> tuple[int, int]:
    """Read height and width as shown, from the header alone.

    Raises:
        InputError: not an image.
    """
    with opened(path) as image:
        return _shown_hw(image)


def sizes_of(root: Path, names: Sequence[str]) -> NDArray[np.int32]:
    """Read height and width of many images, N×2.

    Raises:
        InputError: some are no images; names the first and counts them.
    """
    sizes = np.zeros((len(names), 2), np.int32)
    broken: list[str] = []
    for row, name in enumerate(names):
        try:
            sizes[row] = read_size_hw(root / name)
        except InputError as problem:
            broken.append(str(problem))
    if broken:
        raise InputError(broken[0] + (f" ({len(broken) - 1} more like it)" if len(broken) > 1 else ""))
    return sizes


@contextmanager
def opened(path: Path) -> Generator[Image.Image]:
    """Open the image file; whatever goes wrong inside names it.

    Raises:
        InputError: missing, not an image, truncated or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PIL's own limit, about 89 million pixels, becomes an error: beyond it a small file could fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if path.exists() and not path.is_file():
                raise InputError(
                    f"{path}: cannot be read as an image (no plain file); replace it, or leave it out"
                )  # a pipe would wait for ever
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; mend its name, or leave it out") from None
    except Exception as problem:
        # Decoders raise whatever they please on broken bytes: OSError, SyntaxError, ValueError, struct.error …
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise InputError(f"{path}: cannot be read as an image ({reason}); replace it, or leave it out") from problem


def sizes_hw(image: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the height and width as the image is shown, and as it is stored."""
    return _shown_hw(image), (image.height, image.width)


def _shown_hw(image: Image.Image) -> tuple[int, int]:
    """Size after EXIF orientation."""
    if _orientation(image) in _TURNED:
        return image.width, image.height
    return image.height, image.width


def _orientation(image: Image.Image) -> object:
    """EXIF's number for how the camera was held."""
    return image.getexif().get(ExifTags.Base.Orientation)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB."""
    if image.mode.startswith(("I", "F")):
        return _scaled_to_8_bit(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled_to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit and float grey: PIL's own conversion would cut everything above 255 off."""
    values = np.array(image, np.float64)
    np.nan_to_num(values, copy=False)
    highest = 65535.0 if values.max(initial=0) > 255 else 255.0
    if image.mode.startswith("I;16"):
        highest = 65535.0
    if image.mode == "F" and values.max(initial=0) <= 1:
        highest = 1.0
    values /= highest  # in place: an image of 89 million pixels takes 700 MB as it is
    values *= 255
    return Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8), "L")
