"""What is written in any format and read again has the same images, boxes and classes."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdet.data import DetectionIndex, FileSource, convert, open_source
from kdet.data.index import Names, offsets_of

WIDTH, HEIGHT = 40, 30
NAMES = ["cat", "on", "007", "null", "cup with ears", "Käfer", "12:30", "true"]
SIDES = st.tuples(
    st.floats(0, WIDTH - 1, width=32), st.floats(0, HEIGHT - 1, width=32), st.floats(0.5, 1, width=32), st.booleans()
)


@st.composite
def drawn(draw: st.DrawFn) -> tuple[list[list[tuple[float, float, float, bool]]], list[list[int]], list[str]]:
    """Boxes and labels of up to three images, and class names of which each has a box at least."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    images = draw(st.lists(st.lists(SIDES, max_size=3), min_size=1, max_size=3))
    images[0] = [*images[0], *[(0.0, 0.0, 1.0, False)] * len(names)]
    labels = [[draw(st.integers(0, len(names) - 1)) for _ in boxes] for boxes in images]
    labels[0][-len(names) :] = range(len(names))
    return images, labels, names


def source_of(
    folder: Path, images: list[list[tuple[float, float, float, bool]]], labels: list[list[int]], names: list[str]
) -> FileSource:
    """Plain images, and boxes from a corner and a share of what is left of the image."""
    files = [f"image {i}.png" for i in range(len(images))]
    for file in files:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / file)
    boxes = np.array(
        [(x, y, x + share * (WIDTH - x), y + share * (HEIGHT - y)) for own in images for x, y, share, _ in own],
        np.float32,
    ).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    return FileSource(
        DetectionIndex(
            root=folder,
            classes=tuple(names),
            image_ids=np.arange(1, len(images) + 1),
            file_names=Names.of(files),
            sizes_hw=np.full((len(images), 2), (HEIGHT, WIDTH), np.int32),
            boxes_xyxy=boxes,
            labels=np.array([label for own in labels for label in own], np.int16),
            crowd=np.array([crowd for own in images for *_, crowd in own], bool),
            areas=sides[:, 0] * sides[:, 1],
            offsets=offsets_of(np.array([len(own) for own in images])),
        )
    )


@pytest.mark.parametrize("form", ["coco", "voc", "yolo", "csv"])
@settings(max_examples=12, deadline=None)
@given(what=drawn())
def test_a_round_trip_keeps_images_boxes_and_classes(
    form: str, what: tuple[list[list[tuple[float, float, float, bool]]], list[list[int]], list[str]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = source_of(folder, *what)
        convert({"train": source}, form, folder / "out")
        before, after = source.index, open_source(form, folder / "out").index
        keep = np.ones(len(before.labels), bool) if form in ("coco", "voc") else ~before.crowd
        assert [after.file_names[i] for i in range(len(after))] == [before.file_names[i] for i in range(len(before))]
        np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy[keep], rtol=0, atol=1e-4)
        ours = [before.classes[label] for label in before.labels[keep]]
        assert [after.classes[label] for label in after.labels] == ours
        assert after.crowd.tolist() == before.crowd[keep].tolist()
