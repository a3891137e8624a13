"""YOLO: data.yaml in its many shapes, label lines, outlines, and lines that are no boxes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_cases import assert_same
from PIL import ExifTags, Image

from kdet.data import ShapesSource
from kdet.data.formats.coco import reader as coco
from kdet.data.formats.yolo import reader as yolo
from kdet.errors import InputError

Save = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, save_image: Save) -> Callable[..., Path]:
    """A YOLO folder with one image, 40×30 px, its label lines and data.yaml."""

    def make(
        labels: str | None = "1 0.5 0.5 0.5 0.5\n",
        yaml: str = "names: [cat, dog]\ntrain: images/train\n",
    ) -> Path:
        base = tmp_path / "yolo"
        save_image(base / "images" / "train" / "a.png")
        (base / "labels" / "train").mkdir(parents=True, exist_ok=True)
        if labels is not None:
            (base / "labels" / "train" / "a.txt").write_text(labels)
        (base / "data.yaml").write_text(yaml)
        return base

    return make


def test_reads_centre_and_size(folder: Callable[..., Path]):
    index = yolo.read(folder())
    assert index.classes == ("cat", "dog")
    assert index.boxes_xyxy.tolist() == [[10, 7.5, 30, 22.5]]
    assert index.labels.tolist() == [1]
    assert index.sizes_hw.tolist() == [[30, 40]]


def test_outlines_become_their_boxes(folder: Callable[..., Path]):
    index = yolo.read(folder("0 0.1 0.2 0.9 0.3 0.5 0.8\n\n1 0.5 0.5 1 1\n"))
    np.testing.assert_allclose(index.boxes_xyxy, [[4, 6, 36, 24], [0, 0, 40, 30]], rtol=1e-6)


@pytest.mark.parametrize("labels", ["", "\n \n"])
def test_images_without_objects(folder: Callable[..., Path], save_image: Save, labels: str):
    base = folder(labels)
    save_image(base / "images" / "train" / "no label file.png")
    index = yolo.read(base)
    assert (len(index), len(index.labels)) == (2, 0)


@pytest.mark.parametrize(
    "yaml",
    [
        "names: {0: cat, 1: dog}\ntrain: images/train\n",
        "names: {1: dog, 0: cat}\ntrain: images\n",
        "names: {'0': cat, '1': dog}\ntrain: images\n",
        "path: .\nnames: [cat, dog]\ntrain: [images/train]\n",
        "path: /home/somebody/else\nnames: [cat, dog]\ntrain: ../images/train\n",
        "path: ../yolo\nnames: [cat, dog]\ntrain: images/train\n",
        "names: [cat, dog]\ntrain: list.txt\n",
        "names: [cat, dog]\ntrain: [list.txt]\nnc: 2\n",
    ],
)
def test_data_yaml_in_its_shapes(folder: Callable[..., Path], yaml: str):
    base = folder(yaml=yaml)
    (base / "list.txt").write_text("./images/train/a.png\n")
    for path in (base, base / "data.yaml"):
        index = yolo.read(path)
        assert index.classes == ("cat", "dog")
        assert index.boxes_xyxy.tolist() == [[10, 7.5, 30, 22.5]]
        assert index.image(0).is_file()


def test_several_folders_and_validation_under_its_other_names(folder: Callable[..., Path], save_image: Save):
    base = folder(yaml="names: [cat, dog]\ntrain: [images/train, images/more]\nvalid: images/more\n")
    save_image(base / "images" / "more" / "b.png")
    index = yolo.read(base)
    assert [index.file_names[i] for i in range(2)] == ["images/train/a.png", "images/more/b.png"]
    assert index.offsets.tolist() == [0, 1, 1]
    (base / "labels" / "more").mkdir()
    (base / "labels" / "more" / "b.txt").write_text("0 0.5 0.5 1 1")
    assert yolo.read(base, split="val").labels.tolist() == [0]


def test_labels_beside_the_images(tmp_path: Path, save_image: Save):
    save_image(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "a.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: pictures")
    assert len(yolo.read(tmp_path).labels) == 1


def test_sizes_are_those_after_exif_rotation(folder: Callable[..., Path], save_image: Save):
    base = folder("0 0.5 0.5 0.5 0.5")
    (base / "images" / "train" / "a.png").unlink()
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    save_image(base / "images" / "train" / "a.jpg", exif=tags)
    index = yolo.read(base)
    assert index.sizes_hw.tolist() == [[40, 30]]
    assert index.boxes_xyxy.tolist() == [[7.5, 10, 22.5, 30]]


def test_write_then_read(shapes: ShapesSource, tmp_path: Path, save_image: Save):
    for split in ("train", "val"):
        images = yolo.write(shapes.index, tmp_path, split=split)
        for i in range(len(shapes.index)):
            save_image(images / shapes.index.file_names[i], 48, 48)
    for split in ("train", "val"):
        assert_same(shapes.index, yolo.read(tmp_path, split=split), exact=False)


def test_crowd_regions_are_left_out(coco_file: Callable[..., Path], tmp_path: Path):
    index = coco.read(coco_file())
    yolo.write(index, tmp_path / "yolo")
    assert (tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text() == "1 0.5 0.5 1 1\n"


def test_second_split_must_have_the_same_classes(shapes: ShapesSource, tmp_path: Path):
    yolo.write(shapes.index, tmp_path)
    other = shapes.index.relabelled(["triangle", "square", "circle"])
    with pytest.raises(InputError, match="has the classes"):
        yolo.write(other, tmp_path, split="val")


BAD_LINES = {
    "text": ("0 a 0.5 0.5 0.5", r"a.txt:1: expected numbers, got '0 a"),
    "second line": ("0 0.5 0.5 0.5 0.5\n0 0.5\n", "a.txt:2: expected a class and four numbers"),
    "outline with odd numbers": ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "a.txt:1: expected a class and four"),
    "unknown class": ("2 0.5 0.5 0.5 0.5", "a.txt:1: class 2 is none of 0…1"),
    "negative class": ("-1 0.5 0.5 0.5 0.5", "class -1 is none of"),
    "half a class": ("0.5 0.5 0.5 0.5 0.5", "class 0.5 is none of"),
    "class not a number": ("nan 0.5 0.5 0.5 0.5", "class nan is none of"),
    "box not a number": ("0 nan 0.5 0.5 0.5", r"a.txt:1 \(image 'a.png'\): .*is not finite"),
    "outline not a number": ("0 0.1 0.1 nan 0.2 0.3 0.3", "is not finite"),
    "negative size": ("0 0.5 0.5 -0.5 0.5", "has a negative size"),
    "centre outside": ("0 1.5 0.5 0.1 0.1", "lies outside its image of 40×30 px"),
    "pixels instead of shares": ("0 20 15 10 10", "lies outside its image"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named(folder: Callable[..., Path], name: str):
    labels, message = BAD_LINES[name]
    with pytest.raises(InputError, match=message) as caught:
        yolo.read(folder(labels))
    assert "\n" not in str(caught.value)


BAD_YAML = {
    "not YAML": ("names: [cat", "not YAML"),
    "tag": ("names: !!python/object/apply:os.system ['true']\n", "not YAML"),
    "alias": ("a: &a [x]\nnames: *a\ntrain: images\n", "aliases are refused"),
    "deep": ("[" * 500_000, "nested far too deep"),
    "binary": ("\x00", "not a YAML file"),
    "list": ("- a\n", "expected keys such as names"),
    "no names": ("train: images\n", "expected class names under 'names'"),
    "number for names": ("names: 3\ntrain: images\n", "expected class names under 'names'"),
    "gap": ("names: {0: cat, 2: dog}\ntrain: images\n", "without gaps"),
    "nc": ("names: [cat]\nnc: 2\ntrain: images\n", "data.yaml: nc: 2 classes, but 'names' has 1"),
    "no split": ("names: [cat, dog]\nval: images\n", "no split 'train'; looked for .* found 'val'"),
    "folder that is not there": ("names: [cat, dog]\ntrain: nowhere\n", "data.yaml names 'nowhere'"),
    "folder without images": ("names: [cat, dog]\ntrain: labels\n", "no images for 'train'"),
    "an image": ("names: [cat, dog]\ntrain: images/train/a.png\n", "not an image"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_a_bad_data_yaml_is_named(folder: Callable[..., Path], name: str):
    yaml, message = BAD_YAML[name]
    with pytest.raises(InputError, match=message) as caught:
        yolo.read(folder(yaml=yaml))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["../../outside.png", "/etc/passwd", "./../x.png"])
def test_lists_may_not_leave_the_folder(folder: Callable[..., Path], line: str):
    base = folder(yaml="names: [cat, dog]\ntrain: list.txt\n")
    (base / "list.txt").write_text(line)
    with pytest.raises(InputError, match=r"list.txt: image .* lies outside"):
        yolo.read(base)


def test_missing_parts(folder: Callable[..., Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"no data\.yaml"):
        yolo.read(tmp_path)
    with pytest.raises(InputError, match="no label files; looked for"):
        yolo.read(folder(labels=None))
    base = folder(yaml="names: [cat, dog]\ntrain: list.txt\n")
    (base / "list.txt").write_text("images/train/gone.png\n")
    with pytest.raises(InputError, match=r"gone.png' is not in"):
        yolo.read(base)
    (base / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="no list of images"):
        yolo.read(base)
