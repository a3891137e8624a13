"""COCO: reading, writing, finding files, and one clear line for each kind of bad entry."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_cases import annotation, assert_same

from kdet.data import ShapesSource
from kdet.data.formats.coco import reader as coco
from kdet.errors import InputError

Make = Callable[..., Path]


def test_reads_columns_grouped_by_image(coco_file: Make):
    index = coco.read(coco_file())
    assert index.classes == ("cat", "dog")
    assert index.image_ids.tolist() == [10, 20]
    assert index.offsets.tolist() == [0, 2, 3]
    assert index.boxes_xyxy.tolist() == [[5.5, 5.25, 15.5, 25.25], [0, 0, 40, 30], [1, 2, 11, 22]]
    assert index.labels.tolist() == [0, 1, 1]
    assert index.crowd.tolist() == [True, False, False]
    assert index.areas.tolist() == [200, 600, 200]
    assert index.image(0).is_file()
    assert index.notes == ()


def test_classes_can_be_ordered_and_extended(coco_file: Make):
    index = coco.read(coco_file(), classes=["bird", "dog", "cat"])
    assert index.labels.tolist() == [2, 1, 1]
    with pytest.raises(InputError, match=r"classes \['cat'\] that the given list"):
        coco.read(coco_file(), classes=["dog"])


def test_sizes_come_from_the_header_where_the_file_has_none(coco_file: Make):
    images = [{"id": 10, "file_name": "a.png"}, {"id": 20, "file_name": "b.png"}]
    assert coco.read(coco_file(images=images)).sizes_hw.tolist() == [[30, 40], [30, 40]]


def test_images_without_objects(coco_file: Make):
    index = coco.read(coco_file(annotations=[]))
    assert len(index) == 2
    assert index.boxes_xyxy.shape == (0, 4)
    assert index.objects(1).boxes_xyxy.shape == (0, 4)


def test_write_then_read_is_the_identity(shapes: ShapesSource, tmp_path: Path, save_image: Make):
    images = coco.write(shapes.index, tmp_path)
    for i in range(len(shapes.index)):
        save_image(images / shapes.index.file_names[i], 48, 48)
    again = coco.read(tmp_path)
    assert_same(shapes.index, again)
    np.testing.assert_array_equal(again.areas, shapes.index.areas)
    np.testing.assert_array_equal(again.image_ids, shapes.index.image_ids)


def test_write_keeps_crowd_and_area(coco_file: Make, tmp_path: Path):
    index = coco.read(coco_file())
    coco.write(index, tmp_path / "again")
    again = coco.read(tmp_path / "again", images=tmp_path / "images")
    assert_same(index, again)
    assert again.areas.tolist() == index.areas.tolist()


@pytest.mark.parametrize(
    ("place", "images", "split"),
    [
        ("annotations_val.json", "images", "val"),
        ("annotations/instances_val2017.json", "val2017", "val"),
        ("annotations/instances_train2017.json", "images/train2017", "train"),
        ("annotations/instances_default.json", "images/default", "train"),
        ("annotations.json", ".", "train"),
        ("train/_annotations.coco.json", "train", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("val.json", "val", "val"),
    ],
)
def test_finds_annotations_and_images(coco_file: Make, tmp_path: Path, place: str, images: str, split: str):
    written = coco_file()
    base = tmp_path / "data"
    (base / place).parent.mkdir(parents=True)
    written.rename(base / place)
    (base / images).mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).rename(base / images / name)
    index = coco.read(base, split=split)
    assert all(index.image(i).is_file() for i in range(2))


IMAGE = {"id": 10, "file_name": "a.png", "width": 40, "height": 30}
CATEGORY = {"id": 3, "name": "dog"}
BAD = {
    "unknown image": ({"annotations": [annotation(5, image_id=99)]}, "annotation 5 is of image 99"),
    "unknown category": ({"annotations": [annotation(5, category_id=99)]}, "annotation 5 is of category 99"),
    "image id twice": ({"images": [IMAGE, IMAGE]}, "image id 10 stands twice"),
    "category id twice": ({"categories": [CATEGORY, CATEGORY]}, "category id 3 stands twice"),
    "category name twice, used twice": (
        {
            "categories": [CATEGORY, {"id": 7, "name": "dog"}],
            "annotations": [annotation(1), annotation(2, category_id=7)],
        },
        "'dog' stands twice",
    ),
    "no categories": ({"categories": [], "annotations": []}, "no categories"),
    "no images": ({"images": [], "annotations": []}, "no images"),
    "no list of images": ({"images": None}, "no list 'images'"),
    "no annotations": ({"annotations": None}, "no list 'annotations'"),
    "annotations is an object": ({"annotations": {"a": 1}}, "no list 'annotations'"),
    "missing image file": ({"images": [{**IMAGE, "file_name": "c.png"}]}, "'c.png' is not in"),
    "name leaves the folder": ({"images": [{**IMAGE, "file_name": "../a.png"}]}, "leaves the data set's folder"),
    "absolute name": ({"images": [{**IMAGE, "file_name": "/etc/passwd"}]}, "leaves the data set's folder"),
    "windows drive": ({"images": [{**IMAGE, "file_name": "C:\\a.png"}]}, "leaves the data set's folder"),
    "backslash": ({"images": [{**IMAGE, "file_name": "..\\a.png"}]}, "leaves the data set's folder"),
    "NUL": ({"images": [{**IMAGE, "file_name": "a\0.png"}]}, "leaves the data set's folder"),
    "name far too long": ({"images": [{**IMAGE, "file_name": "a" * 5000}]}, "is not in"),
    "lone surrogate": ({"images": [{**IMAGE, "file_name": "\ud800.png"}]}, "is not in"),
    "no file name": ({"images": [{"id": 10}]}, "entry 0 has no 'file_name'"),
    "file name is a number": ({"images": [{"id": 10, "file_name": 3}]}, "image 10 has no text as its file_name"),
    "image without id": ({"images": [{"file_name": "a.png"}]}, "image 'a.png' has no id"),
    "image id is another text": ({"images": [{**IMAGE, "id": "ten"}]}, "annotation 1 is of image 10, which the file"),
    "width is huge": ({"images": [{**IMAGE, "width": 2**40}]}, "image 'a.png' needs a whole number for width"),
    "width is zero": ({"images": [{**IMAGE, "width": 0}], "annotations": []}, "'a.png' has the size 0×30"),
    "three numbers": ({"annotations": [annotation(5, bbox=[1, 2, 3])]}, "annotation 5 needs four numbers .* for bbox"),
    "box is text": ({"annotations": [annotation(5, bbox="1234")]}, "annotation 5 needs four numbers .* for bbox"),
    "box is null": (
        {"annotations": [annotation(5, bbox=None)]},
        r"annotation 5 \(image 'a.png'\): its 'bbox' is missing",
    ),
    "no category": ({"annotations": [{"id": 5, "image_id": 10, "bbox": [1, 1, 2, 2]}]}, "annotation 5 has no 'cat"),
    "no box": ({"annotations": [{"id": 5, "image_id": 10, "category_id": 3}]}, "its 'bbox' is missing"),
    "neither image nor class": (
        {"annotations": [{"id": 5, "bbox": [1, 1, 2, 2]}]},
        "entry 0 has no 'bbox' and 'image_id'",
    ),
    "category without name": ({"categories": [{"id": 3}]}, "categories entry 0"),
    "category is text": ({"categories": ["dog"]}, "categories entry 0"),
    "stray record": ({"info": annotation(9)}, "stand outside their list"),
    "outside": ({"annotations": [annotation(5, bbox=[35, 5, 10, 10])]}, r"annotation 5 \(image 'a.png'\): box x 35…45"),
    "wholly outside": ({"annotations": [annotation(5, bbox=[50, 5, 3, 3])]}, "lies outside its image of 40×30"),
    "left of it": ({"annotations": [annotation(5, bbox=[-9, 5, 3, 3])]}, "lies outside its image"),
    "negative width": ({"annotations": [annotation(5, bbox=[5, 5, -3, 3])]}, "has a negative size"),
    "not a number": ({"annotations": [annotation(5, bbox=[float("nan"), 5, 3, 3])]}, "is not finite"),
    "infinite": ({"annotations": [annotation(5, bbox=[1, 5, float("inf"), 3])]}, "is not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_entry_is_named_in_one_line(coco_file: Make, name: str):
    parts, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        coco.read(coco_file(**({"annotations": [annotation(1)], "images": [IMAGE]} | parts)))
    assert "annotations_train.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[1, 2]", "not COCO"),
        (b"3", "not COCO"),
        (b"{}", "no list 'images'"),
        (b"[" * 100_000, "nested far too deep"),
        (b'{"images": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_file_that_is_not_coco(tmp_path: Path, content: bytes, message: str):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        coco.read(file)


def test_missing_and_empty_folder(tmp_path: Path):
    with pytest.raises(InputError, match="no such file or folder"):
        coco.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no COCO annotations"):
        coco.read(tmp_path)


def test_given_image_folder_is_the_only_one_searched(coco_file: Make, tmp_path: Path):
    file = coco_file()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"'a.png' is not in .*empty and 1 more are missing"):
        coco.read(file, images=tmp_path / "empty")


def test_written_json_is_ordinary_coco(coco_file: Make, tmp_path: Path):
    coco.write(coco.read(coco_file()), tmp_path / "out", split="val")
    content = json.loads((tmp_path / "out" / "annotations_val.json").read_text())
    assert content["categories"] == [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    assert content["annotations"][0]["bbox"] == [5.5, 5.25, 10.0, 20.0]
    assert content["images"][1] == {"id": 20, "file_name": "b.png", "width": 40, "height": 30}


@pytest.mark.parametrize(
    ("name", "split", "images", "boxes"),
    [
        ("bccd", "train", 292, 3941),
        ("bccd", "val", 72, 945),
        ("aquarium", "train", 448, 3323),
        ("aquarium", "val", 190, 1491),
    ],
)
def test_real_folders(real_data: Callable[[str], Path], name: str, split: str, images: int, boxes: int):
    for path in (real_data(name), real_data(name) / f"annotations_{split}.json"):
        index = coco.read(path, split=split)
        assert (len(index), len(index.boxes_xyxy), index.notes) == (images, boxes, ())
