"""Pictures as `data:` addresses, so that a page is one file."""

import base64
import io
import warnings
from pathlib import Path

from PIL import Image

from kdet.errors import InputError
from kdet.files import read_bytes
from kdet.report.pictures import png_bytes


def data_uri(path: Path) -> str:
    """Return a picture file as a `data:` address, with a palette, so that a page of many stays small.

    Raises:
        InputError: not an image.
    """
    return _uri(png_bytes(open_picture(path), colours=256), "png")


def open_picture(path: Path) -> Image.Image:
    """Open an image file and read it.

    Raises:
        InputError: not an image.
    """
    try:
        # A tiny file can claim a picture that fills the memory: PIL warns of 89 million pixels, here it is refused.
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(read_bytes(path) or b""), formats=("PNG", "JPEG")) as image,
        ):
            return image.copy()
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever they please on broken bytes
        raise InputError(f"{path}: not an image that can be shown ({error})") from None


def picture_uri(image: Image.Image) -> str:
    """Return a photograph, with or without boxes, as a `data:` address; smaller than as PNG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=85, subsampling=0, optimize=True)
    return _uri(buffer.getvalue(), "jpeg")


def png_uri(image: Image.Image) -> str:
    """Return a picture whose every pixel counts, as a `data:` address."""
    return _uri(png_bytes(image), "png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
