"""Images of every kind, and files that are none."""

import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from kdet.data.images import read_image, read_size_hw
from kdet.errors import InputError

Save = Callable[..., Path]


def oriented(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.fixture
def striped(tmp_path: Path) -> Callable[[int], Path]:
    """A 40×20 image with a red left edge, stored with an EXIF orientation."""

    def make(orientation: int) -> Path:
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[:, :10, 0] = 255
        file = tmp_path / f"{orientation}.png"
        Image.fromarray(pixels).save(file, exif=oriented(orientation))
        return file

    return make


@pytest.mark.parametrize(
    ("orientation", "size_hw", "red"),
    [
        (1, (20, 40), np.s_[:, :10]),
        (2, (20, 40), np.s_[:, 30:]),
        (3, (20, 40), np.s_[:, 30:]),
        (6, (40, 20), np.s_[:10, :]),
        (8, (40, 20), np.s_[30:, :]),
    ],
)
def test_exif_orientation_is_applied(
    striped: Callable[[int], Path], orientation: int, size_hw: tuple[int, int], red: tuple[slice, slice]
):
    file = striped(orientation)
    image = read_image(file)
    assert read_size_hw(file) == tuple(image.shape[-2:]) == size_hw
    expected = torch.zeros(size_hw, dtype=torch.uint8)
    expected[red] = 255
    assert torch.equal(image[0], expected)


def test_the_annotated_size_decides_about_rotation(striped: Callable[[int], Path]):
    file = striped(6)
    assert read_image(file, (40, 20)).shape == (3, 40, 20)
    unrotated = read_image(file, (20, 40))
    assert unrotated.shape == (3, 20, 40)
    assert (unrotated[0, :, :10] == 255).all()
    with pytest.raises(InputError, match=r"6.png: the image is 20×40 px, its annotation says 40×21"):
        read_image(file, (21, 40))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 200, (200, 200, 200)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("RGBA", (200, 100, 50, 0), (0, 0, 0)),
        ("LA", (200, 255), (200, 200, 200)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 32896, (128, 128, 128)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, colour: object, expected: tuple[int, int, int]):
    file = tmp_path / "a.png"
    Image.new(mode, (8, 6), colour).save(file)
    image = read_image(file)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 6, 8)
    assert tuple(image[:, 3, 3].tolist()) == expected


def test_palette_with_transparency(tmp_path: Path):
    image = Image.new("P", (8, 6), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [10, 200, 30]
    image.save(tmp_path / "b.png", transparency=bytes([255, 0]))
    assert read_image(tmp_path / "b.png")[:, 0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "expected"), [((0.0, 1.0), (0, 255)), ((0.0, 255.0), (0, 255)), ((0, 65535), (0, 255))]
)
def test_float_images(tmp_path: Path, values: tuple[float, float], expected: tuple[int, int]):
    file = tmp_path / "a.tif"
    Image.fromarray(np.array([values], np.float32)).save(file)
    assert tuple(read_image(file)[0, 0].tolist()) == expected


def test_cmyk_jpeg_and_animation(tmp_path: Path):
    Image.new("CMYK", (8, 6), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert (read_image(tmp_path / "a.jpg") > 250).all()
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


def huge_png(width: int, height: int) -> bytes:
    """A valid header of an image that would fill the memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read as an image"),
        (b"not an image at all", "cannot be read as an image"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read as an image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "cannot be read as an image"),
        (huge_png(12_000, 12_000), "cannot be read as an image .*exceeds limit"),
        (huge_png(60_000, 60_000), "cannot be read as an image .*exceeds limit"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes, reason: str):
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"broken.png: {reason}") as caught:
        read_image(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "gif"])
def test_truncated_files(tmp_path: Path, suffix: str):
    file = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"cut.{suffix}: cannot be read"):
        read_image(file)


def test_wrong_suffix_is_no_problem_and_absent_files_are_named(tmp_path: Path, save_image: Save):
    save_image(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (3, 30, 40)
    with pytest.raises(InputError, match=r"gone.png: no such image"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_size_hw(tmp_path)
