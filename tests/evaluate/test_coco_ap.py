"""COCO metrics: against pycocotools, and against cases worked by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_cases import Box, found, index_of, perturbed, random_index
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kdet.data import DetectionIndex, FileSource, open_source
from kdet.errors import InputError, WorkError
from kdet.evaluate import ImagePredictions, coco_metrics
from kdet.evaluate.metrics import AP_NAMES
from kdet.evaluate.predictions import coco_results

BCCD = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"


def pycocotools_answer(
    index: DetectionIndex, predictions: list[ImagePredictions], category: int | None = None
) -> dict[str, float | None]:
    """The six numbers of pycocotools under the ids as they are, of one class or of all."""
    annotations: list[dict[str, Any]] = []
    for i, image_id in enumerate(index.image_ids.tolist()):
        own = index.objects(i)
        for box, label, crowd, area in zip(own.boxes_xyxy, own.labels, own.crowd, own.areas, strict=True):
            x1, y1, x2, y2 = box.astype(np.float64).tolist()
            record = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(area), "iscrowd": int(crowd)}
            identity = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(label) + 1}
            annotations.append(record | identity)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image_id} for image_id in index.image_ids.tolist()],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(index.classes)],
        "annotations": annotations,
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes([r for p in predictions for r in coco_results(p)]), "bbox")
    if category is not None:
        evaluation.params.catIds = [category]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = (float(value) for value in evaluation.stats[:6])
    return {name: None if value == -1 else value for name, value in zip(AP_NAMES, values, strict=True)}


def assert_equal_to_pycocotools(index: DetectionIndex, predictions: list[ImagePredictions]) -> None:
    metrics = coco_metrics(index, predictions)
    for name, expected in pycocotools_answer(index, predictions).items():
        assert metrics.overall[name] == pytest.approx(expected, abs=1e-6), name
    assert list(metrics.per_class) == list(index.classes)
    for i, (class_name, values) in enumerate(metrics.per_class.items()):
        for name, expected in pycocotools_answer(index, predictions, category=i + 1).items():
            assert values[name] == pytest.approx(expected, abs=1e-6), (class_name, name)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_pycocotools_on_generated_case(seed: int) -> None:
    index = random_index(seed)
    assert index.crowd.any() and (np.diff(index.offsets) == 0).any()
    assert_equal_to_pycocotools(index, perturbed(index, seed))
    assert coco_metrics(index, perturbed(index, seed)).per_class["never seen"]["AP"] is None


def test_equals_pycocotools_beyond_100_detections() -> None:
    index = random_index(3, num_images=4)
    assert_equal_to_pycocotools(index, perturbed(index, 3, extra=400))


def test_equals_pycocotools_on_bccd() -> None:
    if not BCCD.is_dir():
        pytest.skip(f"the bccd images are not at {BCCD}")
    source = open_source("coco", BCCD, split="val")
    assert isinstance(source, FileSource)
    predictions = perturbed(source.index)
    assert_equal_to_pycocotools(source.index, predictions)
    ap = coco_metrics(source.index, predictions).ap
    assert ap is not None and 0.05 < ap < 0.95


def test_order_of_images_does_not_matter() -> None:
    index = random_index(4)
    predictions = perturbed(index, 4)
    assert coco_metrics(index, predictions).as_json() == coco_metrics(index, predictions[::-1]).as_json()


def test_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    index = random_index(0, num_images=3)
    coco_metrics(index, perturbed(index))
    assert capfd.readouterr() == ("", "")


def test_perfect_detections_give_one() -> None:
    index = index_of({7: [((10, 10, 60, 60), 0)], 8: [((0, 0, 20, 20), 1)]})
    metrics = coco_metrics(index, [found(7, ((10, 10, 60, 60), 0, 0.9)), found(8, ((0, 0, 20, 20), 1, 0.2))])
    assert metrics.overall == {"AP": 1, "AP50": 1, "AP75": 1, "AP_S": 1, "AP_M": 1, "AP_L": None}
    assert metrics.per_class["cat"] == {"AP": 1, "AP50": 1, "AP75": 1, "AP_S": None, "AP_M": 1, "AP_L": None}
    assert metrics.curves.ap_per_iou == [1] * 10


def test_iou_of_0_6_passes_three_of_ten_thresholds() -> None:
    # 100×100 against 100×60 of it: IoU 0.6, so a hit at 0.50 and 0.55 and, at equality, 0.60.
    index = index_of({1: [((0, 0, 100, 100), 0)]}, classes=("cat",))
    metrics = coco_metrics(index, [found(1, ((0, 0, 100, 60), 0, 0.5))])
    assert metrics.overall["AP"] == pytest.approx(0.3)
    assert (metrics.overall["AP50"], metrics.overall["AP75"]) == (1, 0)
    assert metrics.curves.ap_per_iou == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert metrics.curves.per_class["cat"]["all"] == pytest.approx([0.3] * 101)


def test_each_class_with_objects_has_curves_of_its_own() -> None:
    index = index_of({1: [((0, 0, 50, 50), 0), ((100, 100, 150, 150), 2)]}, classes=("cat", "dog", "eel"))
    curves = coco_metrics(index, [found(1, ((0, 0, 50, 50), 0, 0.9))]).curves
    assert list(curves.per_class) == ["cat", "eel"]  # there is no dog to find
    assert set(curves.per_class["cat"]["75"]) == {1.0} and set(curves.per_class["eel"]["75"]) == {0.0}
    assert curves.precision["all"] == pytest.approx([0.5] * 101)
    assert curves.as_json()["per_class"]["cat"].keys() == {"50", "75", "all"}


def test_false_alarm_before_the_hit_halves_precision() -> None:
    index = index_of({1: [((0, 0, 50, 50), 0)]}, classes=("cat",))
    metrics = coco_metrics(index, [found(1, ((100, 100, 150, 150), 0, 0.9), ((0, 0, 50, 50), 0, 0.8))])
    assert metrics.overall["AP"] == pytest.approx(0.5)
    assert metrics.curves.precision["50"] == pytest.approx([0.5] * 101)


def test_one_of_two_objects_found() -> None:
    # Precision 1 up to recall 0.50, then 0: 51 of the 101 points.
    index = index_of({1: [((0, 0, 50, 50), 0), ((100, 100, 150, 150), 0)]}, classes=("cat",))
    metrics = coco_metrics(index, [found(1, ((0, 0, 50, 50), 0, 0.9))])
    assert metrics.overall["AP"] == pytest.approx(51 / 101)
    assert metrics.curves.recall[50] == 0.5
    precision = metrics.curves.precision["75"]
    assert precision is not None and precision[50] == 1 and precision[51] == 0


def test_detection_inside_crowd_is_neither_hit_nor_miss() -> None:
    index = index_of({1: [((0, 0, 50, 50), 0), ((60, 60, 200, 200), 0, True)]}, classes=("cat",))
    metrics = coco_metrics(index, [found(1, ((70, 70, 100, 100), 0, 0.9), ((0, 0, 50, 50), 0, 0.8))])
    assert metrics.ap == 1


def test_no_prediction_at_all_gives_zero() -> None:
    index = index_of({1: [((0, 0, 50, 50), 0)], 2: []})
    for predictions in ([], [found(1), found(2)]):
        metrics = coco_metrics(index, predictions)
        assert metrics.overall == {"AP": 0, "AP50": 0, "AP75": 0, "AP_S": None, "AP_M": 0, "AP_L": None}
        assert set(metrics.per_class["dog"].values()) == {None}


def test_no_object_at_all_gives_none() -> None:
    metrics = coco_metrics(index_of({1: []}), [found(1, ((0, 0, 9, 9), 0, 0.5))])
    assert set(metrics.overall.values()) == {None}
    assert metrics.curves.precision == {"50": None, "75": None, "all": None}
    assert metrics.curves.per_class == {}
    assert json.loads(json.dumps(metrics.as_json()))["AP"] is None


def test_background_is_no_class() -> None:
    index = index_of({1: [((0, 0, 50, 50), 1)]}, classes=("__background__", "cat"))
    metrics = coco_metrics(index, [found(1, ((0, 0, 50, 50), 1, 0.9))])
    assert list(metrics.per_class) == ["cat"]
    assert metrics.ap == 1


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([found(5)], "image 5: the ground truth .* no such image"),
        ([found(1), found(1)], "image 1: given twice"),
        ([found(1, ((9, 0, 5, 5), 0, 0.5))], "image 1: .* negative width"),
        ([found(1, ((0, 0, 5, 5), 2, 0.5))], "image 1: a label"),
    ],
)
def test_bad_predictions_are_named(predictions: list[ImagePredictions], message: str) -> None:
    with pytest.raises(InputError, match=message):
        coco_metrics(index_of({1: [((0, 0, 50, 50), 0)]}), predictions)


@pytest.mark.parametrize("row", [((0, 0, 5, 5), 0, float("nan")), ((0, 0, float("inf"), 5), 0, 0.5)])
def test_not_finite_is_failed_work(row: tuple[Box, int, float]) -> None:
    with pytest.raises(WorkError, match=r"image 1: .* not finite"):
        coco_metrics(index_of({1: [((0, 0, 50, 50), 0)]}), [found(1, row)])
