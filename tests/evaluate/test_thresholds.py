"""The score from which on boxes are taken for objects: the one with the best F1, as trying every score finds it."""

import numpy as np
import pytest
from evaluate_cases import found, index_of, perturbed, random_index

from kdet.data import DetectionIndex
from kdet.evaluate import ImagePredictions, best_thresholds, match
from kdet.evaluate.thresholds import FEW
from kdet.ops.classes import real_classes

BOX, FAR = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 150.0, 150.0)


def f1_from(index: DetectionIndex, predictions: list[ImagePredictions], label: int, least: float) -> float:
    """Of one class' detections from a score on, counted anew."""
    kept = [
        ImagePredictions(
            image_id=one.image_id,
            boxes_xyxy=one.boxes_xyxy[one.scores >= least],
            scores=one.scores[one.scores >= least],
            labels=one.labels[one.scores >= least],
        )
        for one in predictions
    ]
    own = match(index, kept)[list(real_classes(index.classes).values()).index(label)]
    counted = ~own.ignored[0]
    hits, misses = int(own.hit[0][counted].sum()), int((~own.hit[0][counted]).sum())
    return 2 * hits / max(1, hits + misses + int(own.objects.sum()))


@pytest.mark.parametrize("seed", range(3))
def test_no_other_score_has_a_better_f1(seed: int) -> None:
    index = random_index(seed)
    predictions = perturbed(index, seed)
    thresholds = best_thresholds(index, predictions)
    assert list(thresholds) == list(index.classes)
    for name, own in thresholds.items():
        label = index.classes.index(name)
        count = int(((index.labels == label) & ~index.crowd).sum())
        if count < FEW:
            continue
        scores = np.unique(np.concatenate([one.scores[one.labels == label] for one in predictions]))
        tried = [f1_from(index, predictions, label, float(score)) for score in scores]
        assert own.f1 == pytest.approx(max(tried))
        assert f1_from(index, predictions, label, own.score) == pytest.approx(own.f1)
        assert own.num_objects == count


def test_by_hand() -> None:
    """Ten cats, eight of them found at 0.9 … 0.2, and three false boxes on each image at 0.55: best from 0.6 on."""
    index = index_of({i: [(BOX, 0)] for i in range(10)}, classes=["cat"])
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    predictions = [found(i, (BOX, 0, score), *[(FAR, 0, 0.55)] * 3) for i, score in enumerate(scores)]
    own = best_thresholds(index, predictions)["cat"]
    assert own.score == pytest.approx(0.6) and own.f1 == pytest.approx(2 * 4 / (4 + 10))


def test_a_class_of_few_objects_has_the_score_of_all() -> None:
    index = index_of({i: [(BOX, 0)] for i in range(FEW)} | {99: [(BOX, 1)]})
    predictions = [found(i, (BOX, 0, 0.8)) for i in range(FEW)] + [found(99, (BOX, 1, 0.3))]
    of = best_thresholds(index, predictions)
    assert of["cat"].score == pytest.approx(0.8) and of["cat"].num_objects == FEW
    assert of["dog"].score == pytest.approx(0.3) and of["dog"].num_objects == FEW + 1  # all eleven are found from there


def test_what_finds_nothing_is_never_taken() -> None:
    index = index_of({i: [(BOX, 0)] for i in range(FEW)}, classes=["cat"])
    assert best_thresholds(index, [found(0, (FAR, 0, 0.9))])["cat"].score == 1
    assert best_thresholds(index, [])["cat"].score == 1
