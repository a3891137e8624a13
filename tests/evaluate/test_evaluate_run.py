"""A detector over a loader: boxes back in the original's pixels, labels by name, the model left as it was."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from evaluate_cases import index_of
from torch import Tensor, nn

from kdet.errors import InputError, WorkError
from kdet.evaluate import evaluate, predict_loader
from kdet.types import Batch, Detections, Detector


class Oracle:
    """A detector that says what it was told to, image by image; enough of the Protocol for evaluation."""

    def __init__(self, class_names: Sequence[str], answers: dict[int, tuple[list[Any], list[int]]]) -> None:
        self.class_names = tuple(class_names)
        self.answers = answers
        self.model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3), nn.Linear(2, 2)))
        self.seen: list[tuple[bool, bool, torch.dtype]] = []

    def predict(self, batch: Batch) -> list[Detections]:
        linear = cast(nn.Module, self.model[1])[1](torch.ones(1, 2))
        self.seen.append((self.model.training, torch.is_grad_enabled(), linear.dtype))
        return [self._one(*self.answers.get(image_id, ([], []))) for image_id in batch.image_ids]

    def _one(self, boxes: list[Any], labels: list[int]) -> Detections:
        return Detections(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.linspace(0.9, 0.5, len(labels)),
            labels=torch.tensor(labels, dtype=torch.int64),
        )


def oracle(class_names: Sequence[str], answers: dict[int, tuple[list[Any], list[int]]]) -> tuple[Oracle, Detector]:
    """The fake under its own type and under the Protocol's."""
    fake = Oracle(class_names, answers)
    return fake, cast(Detector, fake)


def batch(image_ids: list[int], size: tuple[int, int] = (50, 100), original: tuple[int, int] = (100, 200)) -> Batch:
    n = len(image_ids)
    images: Tensor = torch.zeros(n, 3, 64, 128)
    return Batch(images=images, sizes_hw=[size] * n, original_sizes_hw=[original] * n, image_ids=image_ids)


def test_boxes_go_back_to_the_original_and_are_clipped() -> None:
    # Network image 50×100 (h×w), original 150×200: x doubles, y triples; padding to the right holds nothing.
    answers = {3: ([[10, 10, 20, 30], [-5, 40, 110, 64], [101, 5, 120, 20]], [0, 0, 0])}
    _, detector = oracle(["cat"], answers)
    (image,) = predict_loader(detector, [batch([3], original=(150, 200))], ["cat"], device="cpu")
    np.testing.assert_allclose(image.boxes_xyxy, [[20, 30, 40, 90], [0, 120, 200, 150]])
    assert image.boxes_xyxy.dtype == image.scores.dtype == np.float32
    assert (image.image_id, image.dropped) == (3, 0)


def test_labels_are_matched_by_name() -> None:
    boxes = [[0, 0, 10 + i, 10] for i in range(4)]
    _, detector = oracle(["__background__", "dog", "cow", "cat"], {1: (boxes, [1, 2, 3, 0])})
    (image,) = predict_loader(detector, [batch([1])], ["cat", "bird", "dog"], device="cpu")
    assert image.labels.tolist() == [2, 0]
    assert image.boxes_xyxy[:, 2].tolist() == [20, 24]
    assert image.dropped == 2


def test_no_class_in_common_names_both_lists() -> None:
    _, detector = oracle(["background", "cat"], {})
    with pytest.raises(InputError, match=r"\['cat'\].*\['dog'\]"):
        predict_loader(detector, [batch([1])], ["background", "dog"], device="cpu")


def test_evaluation_mode_then_the_old_mode_of_each_module() -> None:
    fake, detector = oracle(["cat"], {})
    frozen = cast(nn.Module, fake.model[1])[0]
    fake.model.train()
    frozen.eval()
    predict_loader(detector, [batch([1])], ["cat"], device="cpu")
    assert fake.seen == [(False, False, torch.float32)]
    assert fake.model.training and not frozen.training
    assert torch.is_grad_enabled()


def test_mode_is_restored_after_an_error() -> None:
    fake, detector = oracle(["cat"], {1: ([[0, 0, 1, 1]], [7])})
    with pytest.raises(IndexError):
        predict_loader(detector, [batch([1])], ["cat"], device="cpu")
    assert fake.model.training


def test_precision() -> None:
    fake, detector = oracle(["cat"], {})
    predict_loader(detector, [batch([1])], ["cat"], device="cpu", precision="bf16-mixed")
    predict_loader(detector, [batch([1])], ["cat"], device="cpu", precision="fp32")
    assert [dtype for _, _, dtype in fake.seen] == [torch.bfloat16, torch.float32]
    with pytest.raises(InputError, match="int4"):
        predict_loader(detector, [batch([1])], ["cat"], device="cpu", precision="int4")


def test_progress_counts_images() -> None:
    _, detector = oracle(["cat"], {})
    counts: list[int] = []
    predict_loader(detector, [batch([1, 2]), batch([3])], ["cat"], device="cpu", progress=counts.append)
    assert counts == [2, 1]


def test_shuffled_classes_evaluate_to_the_same() -> None:
    truth = index_of({1: [((20, 20, 60, 80), 0)], 2: [((0, 0, 100, 90), 1)]}, classes=("cat", "dog"))
    loader = [batch([1, 2])]
    answers: dict[int, tuple[list[Any], list[int]]] = {1: ([[10, 10, 30, 40]], [2]), 2: ([[0, 0, 50, 45]], [1])}
    _, detector = oracle(["__background__", "dog", "cat"], answers)
    result = evaluate(detector, loader, truth, device="cpu")
    assert result.metrics.ap == 1
    assert result.dropped == 0
    relabelled = truth.relabelled(detector.class_names)
    assert evaluate(detector, loader, relabelled, device="cpu").metrics.as_json() == result.metrics.as_json()


def test_broken_weights_are_not_a_bad_score() -> None:
    truth = index_of({1: [((20, 20, 60, 80), 0)]}, classes=("cat",))
    _, detector = oracle(["cat"], {1: ([[float("nan")] * 4], [0])})
    with pytest.raises(WorkError, match=r"image 1: .*not finite"):
        evaluate(detector, [batch([1])], truth, device="cpu")


def test_truth_without_objects_and_images_not_given() -> None:
    _, detector = oracle(["cat"], {})
    with pytest.raises(InputError, match="no image holds an object"):
        evaluate(detector, [batch([1])], index_of({1: []}, classes=("cat",)), device="cpu")
    truth = index_of({1: [((0, 0, 9, 9), 0)], 2: []}, classes=("cat",))
    with pytest.raises(InputError, match=r"1 images .* image 2"):
        evaluate(detector, [batch([1])], truth, device="cpu")
