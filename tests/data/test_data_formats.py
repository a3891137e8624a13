"""Formats by name and by structure, conversion wholly or not at all, and inspection."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from data_cases import annotation, assert_same
from PIL import ExifTags, Image

from kdet.data import FORMATS, FileSource, Shapes, ShapesSource, convert, inspect, open_source, read_image, recognise
from kdet.data.formats.coco import reader as coco
from kdet.errors import InputError

WRITTEN = ["coco", "voc", "yolo", "csv"]


@pytest.fixture
def written(shapes: ShapesSource, tmp_path: Path) -> Callable[[str], Path]:
    """The shapes on the disk in a format."""

    def write(name: str) -> Path:
        validation = ShapesSource(shapes.shapes, split="val")
        notes = convert({"train": shapes, "val": validation}, name, tmp_path / name)
        assert len(notes) == (name == "voc")  # whose pixels are counted from 1
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", WRITTEN)
def test_written_formats_are_recognised_and_read_back(written: Callable[[str], Path], shapes: ShapesSource, name: str):
    folder = written(name)
    assert recognise(folder) == name
    for split, original in (("train", shapes), ("val", ShapesSource(shapes.shapes, split="val"))):
        source = open_source(name, folder, split=split)
        assert_same(original.index, source.index, exact=name != "yolo")
        for i in range(len(original.index)):
            assert torch.equal(source.read(i), original.read(i))
    assert not list(folder.parent.glob(".*"))


@pytest.mark.parametrize("first", WRITTEN)
@pytest.mark.parametrize("second", WRITTEN)
def test_between_formats(written: Callable[[str], Path], shapes: ShapesSource, tmp_path: Path, first: str, second: str):
    source = open_source(first, written(first))
    folder = tmp_path / "deep" / "second"
    convert({"train": source}, second, folder, copy_images=False)
    again = open_source(second, folder, classes=source.index.classes)
    assert_same(shapes.index, again.index, exact=False)
    assert again.index.image(0).is_symlink()
    assert torch.equal(again.read(3), shapes.read(3))


def test_files_are_recognised(written: Callable[[str], Path]):
    assert recognise(written("coco") / "annotations_train.json") == "coco"
    assert recognise(written("yolo") / "data.yaml") == "yolo"


def test_unknown_data_and_formats(tmp_path: Path):
    with pytest.raises(InputError, match="no such file or folder"):
        recognise(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a data set that kdet knows; expected one of coco: "):
        recognise(tmp_path)
    with pytest.raises(InputError, match="unknown data format 'kitti'; known are coco, voc, yolo, csv, shapes"):
        open_source("kitti", tmp_path)
    with pytest.raises(InputError, match="'voc' needs a path"):
        open_source("voc")


def test_shapes_need_no_path():
    source = open_source("shapes", split="val", shapes=Shapes(images=3, val_images=2))
    assert len(source.index) == 2
    assert set(FORMATS) == {"coco", "voc", "yolo", "csv", "shapes"}


def test_images_of_one_name_in_two_splits(coco_file: Callable[..., Path], tmp_path: Path):
    source = FileSource(coco.read(coco_file()))
    for name in WRITTEN:
        notes = convert({"train": source, "val": source}, name, tmp_path / name)
        assert [kind for kind in ("crowd", "from 1", "numbers change") if any(kind in note for note in notes)] == {
            "coco": [],
            "voc": ["crowd", "from 1"],
            "yolo": ["crowd", "numbers change"],
            "csv": ["crowd"],
        }[name]
        for split in ("train", "val"):
            again = open_source(name, tmp_path / name, split=split, classes=source.index.classes)
            assert_same(source.index, again.index, crowd=name not in ("yolo", "csv"))


def test_images_annotated_unrotated_are_stored_so(tmp_path: Path, coco_file: Callable[..., Path]):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = {"id": 10, "file_name": "turned.png", "width": 40, "height": 30}
    file = coco_file(images=[image], annotations=[annotation(1)])
    Image.linear_gradient("L").resize((40, 30)).save(tmp_path / "images" / "turned.png", exif=exif)
    source = FileSource(coco.read(file))
    convert({"train": source}, "yolo", tmp_path / "yolo")
    again = open_source("yolo", tmp_path / "yolo")
    assert_same(source.index, again.index, exact=False)
    assert torch.equal(again.read(0), source.read(0))


@pytest.mark.parametrize("name", ["shapes", "kitti"])
def test_formats_that_cannot_be_written(shapes: ShapesSource, tmp_path: Path, name: str):
    with pytest.raises(InputError, match=name):
        convert({"train": shapes}, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused(shapes: ShapesSource, tmp_path: Path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name in ("used", "file"):
        with pytest.raises(InputError, match="exists already and is not empty"):
            convert({"train": shapes}, "coco", tmp_path / name)
    assert [p.name for p in (tmp_path / "used").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    convert({"train": shapes}, "coco", tmp_path / "empty")
    assert (tmp_path / "empty" / "annotations_train.json").is_file()


def test_nothing_stays_of_a_conversion_that_fails(coco_file: Callable[..., Path], tmp_path: Path):
    source = FileSource(coco.read(coco_file()))
    source.index.image(1).write_bytes(b"broken")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InputError, match=r"b.png: cannot be read"):
        convert({"train": source}, "voc", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_inspect_counts(coco_file: Callable[..., Path]):
    boxes = [
        annotation(1),
        annotation(2, area=2000),
        annotation(3, area=9216, category_id=7),
        annotation(4, iscrowd=1),
        annotation(5, bbox=[1, 1, 0, 4]),
    ]
    found = inspect(FileSource(coco.read(coco_file(annotations=boxes))))
    assert json.loads(json.dumps(found)) == found
    assert found["images"] == 2
    assert found["boxes"] == 4
    assert found["crowd"] == 1
    assert found["empty_images"] == 1
    assert found["classes"] == {"cat": 1, "dog": 3}
    assert found["sizes"] == {"small": 1, "medium": 1, "large": 1}
    assert found["boxes_per_image"] == {"mean": 2.0, "most": 4}
    assert "1 box dropped: no area" in found["problems"][0]


def test_inspect_names_unreadable_images(coco_file: Callable[..., Path]):
    source = FileSource(coco.read(coco_file()))
    source.index.image(0).write_bytes(b"broken")
    for decode in (False, True):
        assert "1 image that cannot be read (first: " in inspect(source, decode=decode)["problems"][0]
        assert "a.png: cannot be read as an image" in inspect(source, decode=decode)["problems"][0]


def test_inspect_generated_and_real(shapes: ShapesSource, real_data: Callable[[str], Path]):
    assert inspect(shapes, decode=True)["problems"] == []
    found = inspect(open_source("coco", real_data("aquarium")))
    assert (found["images"], found["boxes"], found["empty_images"]) == (448, 3323, 1)


def test_real_images_are_read(real_data: Callable[[str], Path]):
    for name in ("bccd", "aquarium"):
        source = open_source(recognise(real_data(name)), real_data(name), split="val")
        assert read_image(source.index.image(0)).shape[-2:] == source.index.size_hw(0)
