"""What people really have, row by row of the list of cases: read as it is meant, or refused with the next step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_files import case

from kdet.data import DetectionIndex, inspect, open_source, recognise
from kdet.errors import InputError

USUAL = [8.0, 10.0, 40.0, 38.0]


def opened(path: Path, **options: Any) -> DetectionIndex:
    """The index of a case under the format that it is recognised as."""
    return open_source(recognise(path), path, **options).index


def problems(path: Path, **options: Any) -> str:
    """What `kdet data inspect --decode` names."""
    return "\n".join(inspect(open_source(recognise(path), path, **options), decode=True)["problems"])


def assert_boxes(index: DetectionIndex, *boxes: list[float]) -> None:
    """To a thousandth of a pixel: YOLO's six decimals."""
    np.testing.assert_allclose(index.boxes_xyxy, boxes, atol=1e-3)


READ = {
    "D01_yolo": (("hand",), "1 row of a box with keypoints"),
    "D01c": (("person",), "1 row of a box with keypoints"),
    "D02_": (("cup", "fork"), "classes left out, which no box is of and which stand for nothing: 'kitchen-things'"),
    "D02b": (("cup",), "classes left out, which no box is of and which stand for nothing: 'cup'"),
    "D31": (("cup",), "classes left out, which no box is of and which stand for nothing: '_background_'"),
    "D03_": (("cup",), "1 image name with backslashes"),
    "D05": (("cup",), ""),
    "D06b": (("cup",), "labelmap.txt is that of CVAT and datumaro, which count pixels from 0"),
    "D07b": (("cup",), "1 file whose <filename> is not the image of their own name"),
    "D08": (("cup",), ""),
    "D10": (("cup",), "2 annotations whose 'area' is no number"),
    "D14_": (("cup",), "image ids are texts (such as '0000001_02999_d_05')"),
    "D14b": (("cup",), "ids are written as text, and read as the numbers that they are"),
    "D23_": (("bird",), ""),
    "D23b": (("cup",), ""),
    "D51": (("x",), "1 image listed twice for 'train', read once"),
}


@pytest.mark.parametrize("name", READ)
def test_the_usual_box_is_read(tmp_path: Path, name: str) -> None:
    classes, said = READ[name]
    path = case(name, tmp_path)
    index = opened(path)
    assert index.classes == classes and len(index) == 1
    assert_boxes(index, USUAL)
    assert said in problems(path) and bool(problems(path)) == bool(said)


def test_splits_count_and_those_that_are_there_are_listed(tmp_path: Path) -> None:
    train, whole, test = case("D05", tmp_path), case("D06_", tmp_path), case("D34", tmp_path)
    with pytest.raises(InputError, match=r"no split 'val'; .* found 'Train'"):
        opened(train, split="val")
    assert opened(whole).crowd.tolist() == [True, False]
    assert "has no splits, so that all of it is read as 'val'" in problems(whole, split="val")
    with pytest.raises(InputError, match=r"no split 'train'; .* found 'test'"):
        opened(test)
    assert_boxes(opened(test, split="test"), USUAL)
    assert "there is no validation split; 'test' is taken for it" in problems(test, split="val")


def test_pixels_are_counted_from_where_the_files_prove(tmp_path: Path) -> None:
    proven, cvat = case("D09", tmp_path), case("D06b", tmp_path)
    assert_boxes(opened(proven), [0, 0, 32, 24])
    assert inspect(open_source("voc", proven))["first_pixel"] == 0
    assert "object 1 of a.xml begins at pixel 0" in problems(proven)
    assert_boxes(opened(cvat, first_pixel=1), [7, 9, 40, 38])


def test_names_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = case("D03b", tmp_path)
    with pytest.raises(InputError, match=r"leaves the data set's folder; .* --images"):
        opened(path)
    index = opened(path, images=path / "images")
    assert index.file_names[0] == "ab12-cup.png" and "outside of it, looked up in" in index.notes[-1]


def test_ids_are_keys(tmp_path: Path) -> None:
    index = opened(case("D13", tmp_path))
    assert_boxes(index, USUAL, USUAL)
    assert "1 annotation id given twice; nothing depends on them" in index.notes[0]


def test_yolo_folders_elsewhere_are_named_with_images(tmp_path: Path) -> None:
    base = case("D17_", tmp_path)
    with pytest.raises(InputError, match=rf"data.yaml: train: folders outside .* --images {base / 'input'}"):
        opened(base / "work")
    assert_boxes(opened(base / "work", images=base / "input"), USUAL, USUAL)
    assert len(opened(base / "work", images=base / "input", split="val")) == 1
    base = case("D17c", tmp_path)
    with pytest.raises(InputError, match=r"train.txt: image .* lies outside .* --images"):
        opened(base / "cfg")
    assert_boxes(opened(base / "cfg", images=base / "data"), USUAL, USUAL)


def test_names_are_text(tmp_path: Path) -> None:
    index = opened(case("D19", tmp_path))
    assert index.classes == ("on", "off") and index.labels.tolist() == [0, 1]


def test_boxes_far_outside_can_be_clipped(tmp_path: Path) -> None:
    path = case("D20b", tmp_path)
    with pytest.raises(InputError, match="--on-bad-box clip or --on-bad-box drop"):
        opened(path)
    index = opened(path, on_bad_box="clip")
    assert_boxes(index, [0, 4, 64, 38])
    assert "1 box clipped: more than 1 px outside" in index.notes[0]


@pytest.mark.parametrize("name", ["D21_", "D21b"])
def test_a_missing_box_is_named_as_such(tmp_path: Path, name: str) -> None:
    path = case(name, tmp_path)
    with pytest.raises(InputError, match=r"annotation 1 .* its 'bbox' is missing .* --on-bad-box drop"):
        opened(path)
    assert len(opened(path, on_bad_box="drop").labels) == 0


def test_text_of_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'it is not UTF-8 text .* encoding="gbk"'):
        opened(case("D33b", tmp_path))


def test_all_suffixes_count(tmp_path: Path) -> None:
    path = case("D24", tmp_path)
    assert len(opened(path)) == 10 and problems(path) == ""


def test_what_disagrees_is_counted(tmp_path: Path) -> None:
    assert "2 boxes stand twice on their image" in problems(case("D25", tmp_path))
    assert "1 image of another size than stated" in problems(case("D26b", tmp_path))
    assert "1 image with an EXIF rotation whose stated size is that before it" in problems(case("D52", tmp_path))
