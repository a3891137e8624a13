"""predictions.json: read what was written, and say what is wrong with anything else."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluate_cases import found, perturbed, random_index

from kdet.errors import InputError
from kdet.evaluate import coco_metrics, read_predictions, write_predictions


def test_write_then_read_is_identity(tmp_path: Path) -> None:
    index = random_index(0, num_images=5)
    predictions = [*perturbed(index), found(999)]
    write_predictions(tmp_path / "predictions.json", predictions, index.classes)
    again, classes = read_predictions(tmp_path / "predictions.json")
    assert classes == index.classes
    assert [image.image_id for image in again] == [image.image_id for image in predictions]
    for one, other in zip(predictions, again, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert coco_metrics(index, again[:-1]).as_json() == coco_metrics(index, predictions[:-1]).as_json()
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_results_are_cocos_own(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.json", [found(4, ((1, 2, 4, 7), 1, 0.5))], ["a", "b"])
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["results"] == [{"image_id": 4, "category_id": 2, "bbox": [1, 2, 3, 5], "score": 0.5}]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"classes": ["a"]}',
        '{"classes": ["a"], "image_ids": [], "results": [{"image_id": 1, "category_id": 1, "bbox": [], "score": 1}]}',
        '{"classes": ["a"], "image_ids": [1], "results": [{"image_id": 1, "category_id": 1, "bbox": [1], "score": 1}]}',
        '{"classes": ["a"], "image_ids": ["x"], "results": []}',
        '{"classes": ["a"], "image_ids": [1], "results": [{"image_id": 1, "category_id": 2}]}',
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"predictions\.json: "):
        read_predictions(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        read_predictions(tmp_path / "none.json")
