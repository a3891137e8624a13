"""Image files that are none, that are broken, that are bombs; and odd ones that are as good as any."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
from hostile_cases import Words, pipe, put
from PIL import Image

Bytes = Callable[[], bytes]


def encoded(format: str, mode: str = "RGB", *, side: int = 48, **options: Any) -> bytes:
    """A noisy image, square, as a file's bytes."""
    channels = {"RGB": 3, "L": 1, "P": 1, "CMYK": 4, "RGBA": 4, "LA": 2}[mode]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, channels), np.uint8)
    image = Image.fromarray(noise.squeeze(), mode if mode != "P" else "L").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG."""
    return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png(width: int, height: int, data: bytes = b"", *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG that claims a size, with whatever data."""
    head = chunk(b"IHDR", pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def cut(format: str, share: float) -> Bytes:
    """The first part of an image file."""
    return lambda: (whole := encoded(format))[: int(len(whole) * share)]


def flipped(format: str, place: int) -> Bytes:
    """An image file with one byte inverted."""

    def make() -> bytes:
        content = bytearray(encoded(format))
        content[place] ^= 0xFF
        return bytes(content)

    return make


_BMP = b"BM" + pack("<IHHI", 54, 0, 0, 54)
_GIF = b"GIF89a"
UNREADABLE = "cannot be read as an image"
TOO_LARGE = (UNREADABLE, "exceeds limit")

BROKEN: dict[str, tuple[Bytes, Words]] = {
    "0 bytes": (lambda: b"", UNREADABLE),
    "1 byte": (lambda: b"\xff", UNREADABLE),
    "4 KiB of zeros": (lambda: bytes(4096), UNREADABLE),
    "noise": (lambda: np.random.default_rng(1).bytes(4096), UNREADABLE),
    "text": (lambda: b"this is no picture\n", UNREADABLE),
    "a page of the web": (lambda: b"<!DOCTYPE html><html>404</html>", UNREADABLE),
    "an SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', UNREADABLE),
    "a PDF": (lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", UNREADABLE),
    "PostScript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n%%EOF\n",
        UNREADABLE,
    ),
    "a zip": (lambda: b"PK\x03\x04" + bytes(60), UNREADABLE),
    "a pickle": (lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.", UNREADABLE),
    "an icon": (lambda: encoded("ICO"), UNREADABLE),
    "JPEG, the mark alone": (lambda: b"\xff\xd8\xff", UNREADABLE),
    "JPEG, a fifth": (cut("JPEG", 0.2), UNREADABLE),
    "JPEG, half": (cut("JPEG", 0.5), UNREADABLE),
    "JPEG, all but the end": (cut("JPEG", 0.97), UNREADABLE),
    "JPEG, wrong first byte": (flipped("JPEG", 0), UNREADABLE),
    "JPEG without a frame": (lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(9) + b"\xff\xd9", UNREADABLE),
    "JPEG of 0 lines": (
        lambda: b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x10\x01\x01\x11\x00\xff\xd9",
        UNREADABLE,
    ),
    "JPEG of 65,000 × 65,000": (
        lambda: b"\xff\xd8\xff\xc0\x00\x0b\x08\xfd\xe8\xfd\xe8\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00",
        TOO_LARGE,
    ),
    "PNG, the mark alone": (lambda: b"\x89PNG\r\n\x1a\n", UNREADABLE),
    "PNG, half": (cut("PNG", 0.5), UNREADABLE),
    "PNG, wrong first byte": (flipped("PNG", 0), UNREADABLE),
    "PNG, wrong header": (flipped("PNG", 18), UNREADABLE),
    "PNG, wrong data": (flipped("PNG", 900), UNREADABLE),
    "PNG without data": (lambda: png(8, 8), UNREADABLE),
    "PNG of no size": (lambda: png(0, 0), UNREADABLE),
    "PNG of depth 7": (lambda: png(8, 8, bytes(200), depth=7), UNREADABLE),
    "PNG of colour 9": (lambda: png(8, 8, bytes(200), colour=9), UNREADABLE),
    "PNG with too little data": (lambda: png(64, 64, bytes(20)), UNREADABLE),
    "PNG with a wrong sum": (
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), crc=1),
        UNREADABLE,
    ),
    "PNG of 60,000 × 60,000": (lambda: png(60_000, 60_000), TOO_LARGE),
    "PNG of 12,000 × 12,000": (lambda: png(12_000, 12_000), TOO_LARGE),
    "PNG of 2,000,000,000 × 1": (lambda: png(2_000_000_000, 1), TOO_LARGE),
    "PNG of 1 × 2,147,483,647": (lambda: png(1, 2**31 - 1), TOO_LARGE),
    "PNG with packed text of 8 MiB": (
        lambda: png(8, 8, bytes(200), extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**23)))),
        UNREADABLE,
    ),
    "GIF, the mark alone": (lambda: _GIF, UNREADABLE),
    "GIF, half": (cut("GIF", 0.5), UNREADABLE),
    "GIF without an image": (lambda: _GIF + pack("<HHBBB", 8, 8, 0, 0, 0) + b";", UNREADABLE),
    "GIF of 65,535 × 65,535": (lambda: _GIF + pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";", UNREADABLE),
    "BMP, half": (cut("BMP", 0.5), UNREADABLE),
    "BMP, header alone": (lambda: _BMP, UNREADABLE),
    "BMP of 60,000 × 60,000": (
        lambda: _BMP + pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        TOO_LARGE,
    ),
    "BMP of negative width": (
        lambda: _BMP + pack("<IiiHHIIiiII", 40, -8, 8, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(300),
        UNREADABLE,
    ),
    "TIFF, half": (cut("TIFF", 0.5), UNREADABLE),
    "TIFF without a directory": (lambda: b"II*\x00" + pack("<I", 9999), UNREADABLE),
    "TIFF whose directory is itself": (lambda: b"II*\x00" + pack("<IHI", 8, 0, 8), UNREADABLE),
    "TIFF of 60,000 × 60,000": (
        lambda: b"II*\x00" + pack("<IH", 8, 2) + pack("<HHII", 256, 4, 1, 60_000) + pack("<HHII", 257, 4, 1, 60_000),
        UNREADABLE,
    ),
    "WebP, half": (cut("WEBP", 0.5), UNREADABLE),
    "WebP, header alone": (lambda: b"RIFF\x10\0\0\0WEBPVP8 ", UNREADABLE),
    "PPM of letters": (lambda: b"P6\nwide high\n255\n", UNREADABLE),
    "PPM of 99,999 × 99,999": (lambda: b"P6\n99999 99999\n255\n", TOO_LARGE),
    "PPM with too few pixels": (lambda: b"P6\n64 64\n255\n" + bytes(10), UNREADABLE),
    "PPM of endless digits": (lambda: b"P6\n" + b"9" * 5000 + b" 1\n255\n", UNREADABLE),
    "JPEG 2000, half": (cut("JPEG2000", 0.5), UNREADABLE),
}

_PUT: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": pipe,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}
NO_FILES: dict[str, tuple[Callable[[Path], object], Words]] = {
    name: (make, "image" if "link" in name else UNREADABLE) for name, make in _PUT.items()
}

GOOD: dict[str, tuple[Bytes, tuple[int, int] | None]] = {
    "JPEG": (lambda: encoded("JPEG"), (48, 48)),
    "JPEG, progressive": (lambda: encoded("JPEG", progressive=True), (48, 48)),
    "JPEG, grey": (lambda: encoded("JPEG", "L"), (48, 48)),
    "JPEG, CMYK": (lambda: encoded("JPEG", "CMYK"), (48, 48)),
    "JPEG with text behind it": (lambda: encoded("JPEG") + b"hello" * 100, (48, 48)),
    "JPEG with broken EXIF": (lambda: encoded("JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 40), (48, 48)),
    "JPEG with a broken profile": (lambda: encoded("JPEG", icc_profile=b"no profile"), (48, 48)),
    "PNG": (lambda: encoded("PNG"), (48, 48)),
    "PNG, grey with alpha": (lambda: encoded("PNG", "LA"), (48, 48)),
    "PNG, palette": (lambda: encoded("PNG", "P"), (48, 48)),
    "PNG, alpha": (lambda: encoded("PNG", "RGBA"), (48, 48)),
    "PNG, 16 bits, grey": (lambda: png(2, 2, (b"\0" + b"\xff\xff\0\0") * 2, depth=16, colour=0), (2, 2)),
    "PNG, 16 bits, colour": (lambda: png(2, 2, (b"\0" + b"\x80\0" * 6) * 2, depth=16, colour=2), (2, 2)),
    "PNG, 1 bit": (lambda: png(8, 2, b"\0\xaa\0\x55", depth=1, colour=0), (2, 8)),
    "PNG of one pixel": (lambda: png(1, 1, b"\0\1\2\3"), (1, 1)),
    "PNG of one line": (lambda: png(5000, 1, b"\0" + bytes(15_000)), (1, 5000)),
    "GIF": (lambda: encoded("GIF", "P"), (48, 48)),
    "GIF of many frames": (lambda: animated("GIF"), (48, 48)),
    "PNG of many frames": (lambda: animated("PNG"), (48, 48)),
    "WebP of many frames": (lambda: animated("WEBP"), (48, 48)),
    "TIFF of many pages": (lambda: animated("TIFF"), (48, 48)),
    "BMP": (lambda: encoded("BMP"), (48, 48)),
    "WebP": (lambda: encoded("WEBP"), (48, 48)),
    "TIFF, CMYK": (lambda: encoded("TIFF", "CMYK"), (48, 48)),
    "TIFF, packed": (lambda: encoded("TIFF", compression="tiff_lzw"), (48, 48)),
    "PPM": (lambda: encoded("PPM"), (48, 48)),
    "JPEG 2000": (lambda: encoded("JPEG2000"), (48, 48)),
}
"""Each is read under the name of another format, too."""


def animated(format: str) -> bytes:
    """Three frames, the first of them red."""
    frames = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue", "white")]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format, save_all=True, append_images=frames[1:], **({"lossless": True} if format == "WEBP" else {})
    )
    return buffer.getvalue()


def written(path: Path, content: Bytes) -> Path:
    """The image as a file."""
    return put(path, content())
