"""AP on images drawn anew: equal to COCO's on the very data set that a draw stands for."""

from dataclasses import replace

import numpy as np
import pytest
from evaluate_cases import found, index_of, perturbed, random_index

from kdet.data import DetectionIndex
from kdet.errors import InputError
from kdet.evaluate import ImagePredictions, coco_metrics, draws, match, percentile_interval, resampled_ap

BOX = (10.0, 10.0, 60.0, 60.0)


def untied(predictions: list[ImagePredictions]) -> list[ImagePredictions]:
    """The same with scores that all differ: which of two equal ones comes first is nobody's promise."""
    rng = np.random.default_rng(1)
    return [replace(image, scores=rng.random(len(image.scores)).astype(np.float32)) for image in predictions]


def drawn(
    index: DetectionIndex, predictions: list[ImagePredictions], counts: np.ndarray
) -> tuple[DetectionIndex, list[ImagePredictions]]:
    """The data set in which every image really stands as often as it was drawn."""
    rows = np.repeat(np.arange(len(index)), counts)
    by_id = {image.image_id: image for image in predictions}
    images = [replace(by_id[int(index.image_ids[row])], image_id=number) for number, row in enumerate(rows)]
    return replace(index.subset(rows), image_ids=np.arange(len(rows))), images


@pytest.mark.parametrize("seed", range(4))
def test_every_image_once_is_the_ap_of_the_metrics(seed: int) -> None:
    index = random_index(seed)
    predictions = perturbed(index, seed)
    once = np.ones((1, len(index)), np.int64)
    assert resampled_ap(match(index, predictions), once)[0] == pytest.approx(
        coco_metrics(index, predictions).ap, abs=1e-9
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_is_the_ap_of_the_data_set_that_repeats_its_images(seed: int) -> None:
    index = random_index(seed)
    predictions = untied(perturbed(index, seed))
    weights = draws(len(index), count=3, seed=seed)
    of_draws = resampled_ap(match(index, predictions), weights)
    for counts, ap in zip(weights, of_draws, strict=True):
        assert ap == pytest.approx(coco_metrics(*drawn(index, predictions, counts)).ap, abs=1e-9)


def test_draws_hold_as_many_images_as_there_are_and_come_again() -> None:
    weights = draws(7, count=50)
    assert weights.shape == (50, 7) and (weights.sum(axis=1) == 7).all()
    assert (weights == draws(7, count=50)).all() and not (weights == draws(7, count=50, seed=1)).all()


def test_by_hand() -> None:
    index = index_of({1: [(BOX, 0)], 2: [(BOX, 0)]}, classes=["cat"])
    classes = match(index, [found(1, (BOX, 0, 0.9)), found(2, ((0, 0, 9, 9), 0, 0.5))])
    # Half the objects are found: precision 1 at recalls 0 … 0.50, 51 of 101 points; then all, none, two thirds.
    weights = np.array([[1, 1], [2, 0], [0, 2], [2, 1]])
    assert resampled_ap(classes, weights) == pytest.approx([51 / 101, 1.0, 0.0, 67 / 101])


def test_a_class_that_was_not_drawn_does_not_count() -> None:
    index = index_of({1: [(BOX, 0)], 2: [(BOX, 1)], 3: []})
    classes = match(index, [found(1, (BOX, 0, 0.9)), found(2)])
    of_draws = resampled_ap(classes, np.array([[1, 1, 1], [3, 0, 0], [0, 0, 3]]))
    assert of_draws[:2].tolist() == [0.5, 1.0] and np.isnan(of_draws[2])


def test_no_detection_at_all() -> None:
    index = index_of({1: [(BOX, 0)], 2: []})
    assert resampled_ap(match(index, []), np.array([[1, 1], [2, 0]])).tolist() == [0.0, 0.0]


def test_broken_predictions_are_refused() -> None:
    with pytest.raises(InputError, match="no such image"):
        match(index_of({1: [(BOX, 0)]}), [found(5, (BOX, 0, 0.9))])


def test_percentiles() -> None:
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert percentile_interval(np.array([np.nan])) is None


def test_the_same_draws_for_both_make_equal_models_equal_in_every_draw() -> None:
    index = random_index(3)
    one, other = (match(index, perturbed(index, 3)) for _ in range(2))
    weights = draws(len(index), count=40)
    assert (resampled_ap(one, weights) == resampled_ap(other, weights)).all()
