"""Predictions as other tools read them; the numbers are worked out by hand."""

import json
from pathlib import Path

import pytest

from kdet.errors import InputError
from kdet.workflows.predicted_files import Predicted, write_as

FOUND = Predicted(
    file=Path("photos/a.jpg"), size_hw=(50, 200), boxes_xyxy=[[20.0, 10.0, 60.0, 35.0]], labels=[1], scores=[0.75]
)
NOTHING = Predicted(file=Path("photos/b.jpg"), size_hw=(50, 200), boxes_xyxy=[], labels=[], scores=[])


def test_coco_results(tmp_path: Path) -> None:
    (result,) = json.loads(write_as("coco", [NOTHING, FOUND], ["cat", "dog"], tmp_path).read_text())
    assert result["image_id"] == 2 and result["file_name"] == "a.jpg" and result["category_id"] == 2
    assert result["bbox"] == [20, 10, 40, 25] and result["score"] == 0.75


def test_yolo_rows(tmp_path: Path) -> None:
    labels = write_as("yolo", [FOUND, NOTHING], ["cat", "dog"], tmp_path)
    assert (labels / "a.txt").read_text() == "1 0.2 0.45 0.2 0.5 0.75\n"
    assert (labels / "b.txt").read_text() == ""
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"


def test_label_studio_tasks(tmp_path: Path) -> None:
    first, second = json.loads(write_as("labelstudio", [FOUND, NOTHING], ["cat", "dog"], tmp_path).read_text())
    (region,) = first["predictions"][0]["result"]
    value = {"x": 10, "y": 20, "width": 20, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]}
    assert region["value"] == value and region["score"] == 0.75 and region["original_width"] == 200
    assert first["data"] == {"image": "photos/a.jpg"} and second["predictions"][0]["result"] == []


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--as voc: expected one of coco, yolo, labelstudio"):
        write_as("voc", [FOUND], ["cat", "dog"], tmp_path)
    with pytest.raises(InputError, match="two images are called 'a'"):
        write_as("yolo", [FOUND, FOUND], ["cat", "dog"], tmp_path)
