"""In somebody else's loop a Distiller behaves as torchvision's detectors do."""

import pytest
import torch
from distill_cases import distiller

from fakes import DETECTOR_NAMES, images_and_targets, tiny
from kdet.distill import Distiller
from kdet.distill.methods import structural
from kdet.errors import InputError


def test_a_report_is_read_like_the_dict_of_losses_that_it_holds() -> None:
    report = distiller(structural())(*images_and_targets())
    assert dict(report) == report.parts and {"structural"} < set(report.keys())
    assert list(report.items()) == list(report.parts.items())
    torch.testing.assert_close(sum(report.values()), report.total)
    assert (lambda **parts: parts)(**report) == report.parts
    with pytest.raises(KeyError):
        report["structral"]


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_in_evaluation_it_finds_what_the_bare_student_finds(name: str) -> None:
    """Boxes in pixels of the images as given; the detector resizes them, each by another factor."""
    student, teacher = tiny(name), tiny(name, seed=1)
    images, _ = images_and_targets()
    pair = Distiller(student, teacher, structural()).eval()
    with torch.no_grad():
        found, expected = pair(images), student.model(images)
    assert sum(len(one["boxes"]) for one in found) > 0
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-3, atol=1e-2)


def test_training_without_targets_is_refused() -> None:
    with pytest.raises(InputError, match=r"training needs targets .* `\.eval\(\)`"):
        distiller(structural()).train()(images_and_targets()[0])


def test_other_keys_of_targets_are_not_read() -> None:
    images, targets = images_and_targets()
    more = [{**target, "image_id": torch.tensor(i), "iscrowd": torch.zeros(2)} for i, target in enumerate(targets)]
    pair = distiller(structural())
    torch.testing.assert_close(pair(images, more).total, pair(images, targets).total)
