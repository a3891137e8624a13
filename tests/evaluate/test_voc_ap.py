"""VOC's own AP: values worked by hand, and the development kit's procedure written as loops."""

from dataclasses import replace

import pytest
from evaluate_cases import Box, found, index_of, perturbed, random_index

from kdet.data import DetectionIndex
from kdet.evaluate import VOC_NAMES, ImagePredictions, coco_metrics, voc_ap, with_voc_ap

A: Box = (0, 0, 50, 50)
B: Box = (100, 100, 150, 150)
C: Box = (0, 100, 50, 150)
NOWHERE: Box = (160, 0, 190, 40)


def both(index: DetectionIndex, *predictions: ImagePredictions, name: str = "cat") -> tuple[float | None, ...]:
    values = voc_ap(index, predictions)[name]
    return tuple(values[key] for key in VOC_NAMES)


def test_hand_worked_precision_and_recall() -> None:
    # Three objects; hit, false alarm, hit: recall 1/3 at precision 1, 2/3 at 2/3, never all.
    index = index_of({1: [(A, 0), (B, 0), (C, 0)]})
    rows = ((A, 0, 0.9), (NOWHERE, 0, 0.8), (B, 0, 0.7))
    eleven = (4 * 1 + 3 * 2 / 3) / 11  # recalls 0, .1, .2, .3; then .4, .5, .6; then four times nothing
    area = 1 / 3 * 1 + 1 / 3 * 2 / 3
    assert both(index, found(1, *rows)) == pytest.approx((eleven, area))


def test_a_recall_that_is_reached_exactly_counts() -> None:
    # Three of ten: the development kit's 0.1 · 3 is 0.30000000000000004 in floating point, and would miss it.
    index = index_of({i: [(A, 0)] for i in range(10)})
    hits = [found(i, (A, 0, 0.9)) for i in range(3)]
    assert both(index, *hits) == pytest.approx((4 / 11, 0.3))


def test_a_second_detection_of_one_object_is_a_false_alarm_where_coco_gives_it_the_next() -> None:
    # Both detections overlap the first object most; the second one covers the other object by 0.52 as well.
    near: Box = (0, 16, 50, 66)  # IoU with A is 34/66 = 0.515
    index = index_of({1: [(A, 0), (near, 0)]}, classes=("cat",))
    index = replace(index, first_pixel=1)
    detections = [found(1, (A, 0, 0.9), ((0, 1, 50, 51), 0, 0.8))]  # the second: 49/51 with A, 35/65 with the other
    metrics = with_voc_ap(coco_metrics(index, detections), index, detections)
    assert metrics.overall["AP50"] == pytest.approx(1)
    assert metrics.overall["AP50_VOC2010"] == pytest.approx(0.5)
    assert metrics.overall["AP50_VOC2007"] == pytest.approx(6 / 11)
    assert metrics.per_class["cat"]["AP50_VOC2007"] == metrics.overall["AP50_VOC2007"]


def test_what_belongs_to_a_difficult_object_is_left_out() -> None:
    index = index_of({1: [(A, 0, True), (B, 0)]})
    assert both(index, found(1, (A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))) == (1, 1)
    part: Box = (0, 0, 50, 20)  # inside the difficult object, but 0.4 of it
    assert both(index, found(1, (part, 0, 0.9), (B, 0, 0.7))) == pytest.approx((0.5, 0.5))


def test_classes_do_not_meet_and_one_without_objects_has_no_value() -> None:
    index = index_of({1: [(A, 0)], 2: []}, classes=("cat", "dog", "eel"))
    values = voc_ap(index, [found(1, (A, 1, 0.9)), found(2, (A, 0, 0.9))])
    assert values["cat"] == dict.fromkeys(VOC_NAMES, 0.0)
    assert values["dog"] == values["eel"] == dict.fromkeys(VOC_NAMES)
    nothing = with_voc_ap(coco_metrics(index, []), replace(index, first_pixel=1), [])
    assert nothing.overall["AP50_VOC2007"] == 0


def test_data_of_another_format_have_coco_metrics_alone() -> None:
    index = index_of({1: [(A, 0)]})
    metrics = coco_metrics(index, [])
    assert with_voc_ap(metrics, index, []) is metrics and not set(VOC_NAMES) & set(metrics.overall)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_development_kits_procedure_as_loops(seed: int) -> None:
    index = random_index(seed)
    predictions = perturbed(index, seed)
    values = voc_ap(index, predictions)
    for label, name in enumerate(index.classes):
        expected = in_loops(index, predictions, label)
        assert tuple(values[name].values()) == pytest.approx(expected)


def in_loops(
    index: DetectionIndex, predictions: list[ImagePredictions], label: int
) -> tuple[float | None, float | None]:
    """As VOCevaldet and VOCap describe it: one detection after the other."""
    objects = {
        int(image_id): [
            (box.astype(float), bool(crowd))
            for box, own, crowd in zip(
                index.objects(i).boxes_xyxy, index.objects(i).labels, index.objects(i).crowd, strict=True
            )
            if own == label
        ]
        for i, image_id in enumerate(index.image_ids)
    }
    count = sum(not difficult for of_image in objects.values() for _, difficult in of_image)
    if not count:
        return None, None
    rows = [
        (-float(score), image.image_id, box.astype(float))
        for image in sorted(predictions, key=lambda one: one.image_id)
        for box, own, score in zip(image.boxes_xyxy, image.labels, image.scores, strict=True)
        if own == label
    ]
    taken: set[tuple[int, int]] = set()
    true, false, precision, recall = 0, 0, [], []
    for _, image_id, box in sorted(rows, key=lambda row: row[0]):
        best, place = 0.0, -1
        for number, (other, _) in enumerate(objects[image_id]):
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if width > 0 and height > 0:
                shared = width * height
                whole = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
                if shared / whole > best:
                    best, place = shared / whole, number
        if best >= 0.5 and objects[image_id][place][1]:
            continue
        if best >= 0.5 and (image_id, place) not in taken:
            taken.add((image_id, place))
            true += 1
        else:
            false += 1
        precision.append(true / (true + false))
        recall.append(true / count)
    eleven = 0.0
    for tenth in range(11):
        reached = [p for p, r in zip(precision, recall, strict=True) if r >= tenth / 10 - 1e-9]
        eleven += max(reached, default=0.0) / 11
    envelope, last, area = [0.0, *precision, 0.0], 0.0, 0.0
    for i in range(len(envelope) - 2, -1, -1):
        envelope[i] = max(envelope[i], envelope[i + 1])
    for r, p in zip([*recall, 1.0], envelope[1:], strict=True):
        area += (r - last) * p
        last = r
    return eleven, area
