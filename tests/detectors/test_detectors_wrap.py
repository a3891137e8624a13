"""A user's own torchvision module, wrapped: class lists with and without background, COCO's with its N/A entries."""

import pytest
import torch
from torch import nn
from torchvision.models import get_weight
from torchvision.models.detection import MaskRCNN, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD

from fakes import CLASSES, DETECTOR_NAMES, batch_for, images_and_targets, tiny
from kdet.detectors import wrap
from kdet.errors import InputError
from kdet.ops.classes import match_classes, real_classes
from kdet.types import Need

BACKGROUND = "__background__"


@pytest.mark.parametrize("name", DETECTOR_NAMES)
@pytest.mark.parametrize("names", [CLASSES, (BACKGROUND, *CLASSES)])
def test_classes_may_be_given_with_or_without_background(name: str, names: tuple[str, ...]) -> None:
    built = tiny(name)
    wrapped = wrap(built.model, names)
    assert wrapped.class_names == (BACKGROUND, *CLASSES) == built.class_names
    assert (wrapped.family, wrapped.levels, wrapped.model) == (built.family, built.levels, built.model)
    assert wrapped.build_arguments is None


@pytest.mark.parametrize("name", DETECTOR_NAMES)
@pytest.mark.parametrize("names", [CLASSES[:2], (BACKGROUND, *CLASSES, "star"), ()])
def test_a_wrong_number_of_classes_is_refused(name: str, names: tuple[str, ...]) -> None:
    with pytest.raises(
        InputError, match=rf"expected 4 class names \(with background\) or 3 \(without\), got {len(names)}"
    ):
        wrap(tiny(name).model, names)


def test_a_list_without_background_that_fills_every_column_is_refused() -> None:
    with pytest.raises(InputError, match=r"column 0 .* is the background, got the class 'circle'.*num_classes=5"):
        wrap(tiny().model, (*CLASSES, "star"))


def test_torchvisions_coco_list_keeps_its_columns_and_loses_its_fillers() -> None:
    categories = get_weight("RetinaNet_ResNet50_FPN_Weights.COCO_V1").meta["categories"]
    teacher = wrap(tiny(classes=[f"c{i}" for i in range(90)]).model, categories)
    columns = real_classes(teacher.class_names)
    assert (len(teacher.class_names), len(columns)) == (91, 80)
    assert (columns["person"], columns["toothbrush"]) == (1, 90)
    eighty = tuple(columns)
    pairs = match_classes((BACKGROUND, *reversed(eighty)), teacher.class_names)
    assert len(pairs.names) == 80 and pairs.reordered
    assert all(teacher.class_names[column] == name for name, column in zip(pairs.names, pairs.teacher, strict=True))


def test_a_wrapped_model_takes_its_input_size_from_its_own_transform() -> None:
    assert wrap(tiny(image_size=(64, 96)).model, CLASSES).image_size == (64, 96)
    assert wrap(tiny(image_size=64).model, CLASSES).image_size == 64
    assert wrap(tiny("ssdlite", image_size=96).model, CLASSES).image_size == 96
    bare = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    assert wrap(bare, CLASSES).image_size == 320


def test_a_wrapped_ssdlite_of_the_bare_library_can_be_observed() -> None:
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    assert isinstance(model, SSD)
    detector = wrap(model, CLASSES)
    batch = detector.batch(*images_and_targets())
    seen = detector.observe(batch, detector.provides, batch.targets)
    assert seen.losses.keys() == {"bbox_regression", "classification"}
    assert batch.images.shape[-2:] == (320, 320)


def test_wrapping_changes_no_weight_and_no_mode() -> None:
    model = tiny().model
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    detector = wrap(model, CLASSES)
    assert model.training and all(module.training for module in model.backbone.body.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    detector.observe(batch_for(detector), frozenset({Need.FEATURES}))
    assert all(p.requires_grad for p in model.parameters())


def test_other_modules_are_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"no adapter for a Linear; known: torchvision's RetinaNet, .*; kdet's CascadeRCNN, ATSS, GFL"
    ):
        wrap(nn.Linear(2, 2), CLASSES)


def test_mask_rcnn_serves_as_a_teacher_and_is_no_student_whose_masks_would_be_forgotten() -> None:
    detector = wrap(MaskRCNN(tiny("faster_rcnn").model.backbone, num_classes=4), CLASSES)
    batch = batch_for(detector)
    assert detector.observe(batch, frozenset({Need.FEATURES})).features
    with pytest.raises(InputError, match=r"MaskRCNN.*boxes alone"):
        detector.observe(batch, frozenset({Need.LOSSES}), batch.targets)
