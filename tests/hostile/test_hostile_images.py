"""Image files: broken ones are refused in one line and in little memory, odd ones are read."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_cases import assert_refused, deadline
from image_cases import BROKEN, GOOD, NO_FILES, UNREADABLE, written
from PIL import Image

from kdet.data import image_folder, read_image
from kdet.data.images import read_size_hw
from kdet.errors import InputError
from kdet.report.embed import open_picture


@pytest.mark.parametrize("name", BROKEN)
def test_broken(tmp_path: Path, name: str) -> None:
    content, words = BROKEN[name]
    path = written(tmp_path / "a.jpg", content)
    tracemalloc.start()
    try:
        assert_refused(
            lambda: read_image(path), tmp_path, ("a.jpg: ", *((words,) if isinstance(words, str) else words))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24
    assert_refused(lambda: open_picture(path), tmp_path, "a.jpg: not an image that can be shown")


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    make, words = NO_FILES[name]
    make(tmp_path / "a.png")
    with deadline(20), pytest.raises(InputError) as caught:
        read_image(tmp_path / "a.png")
    assert str(words) in str(caught.value)


def test_a_pipe_in_a_folder_of_images_is_not_waited_for(tmp_path: Path) -> None:
    NO_FILES["a pipe"][0](tmp_path / "a.png")
    with deadline(20), pytest.raises(InputError, match=UNREADABLE):
        image_folder(tmp_path)


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_sound(tmp_path: Path, name: str) -> None:
    content, size_hw = GOOD[name]
    for file in ("a.png", "a.jpg"):
        path = written(tmp_path / file, content)
        assert read_size_hw(path) == size_hw
        image = read_image(path)
        assert image.dtype == torch.uint8 and tuple(image.shape) == (3, *(size_hw or ()))
    if "many" in name:
        assert image[:, 20, 20].tolist() == [255, 0, 0]


def test_memory_of_a_16_bit_image_is_a_few_times_its_pixels(tmp_path: Path) -> None:
    """The largest that is read has 89 million pixels; a file of some kilobytes can hold them."""
    pixels = np.zeros((1000, 1000), np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 20_000
    path = written(tmp_path / "a.png", buffer.getvalue)
    tracemalloc.start()
    try:
        read_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * pixels.size
