"""Every family teaches every family, itself included, with the default adapter: one step each, or a clear refusal."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import kdet
from fakes import CLASSES, images_and_targets, tiny
from kdet.detectors import wrap
from kdet.detectors.backbones.foundation import foundation
from kdet.distill import Distiller, TeacherConfig
from kdet.distill.adapters import Adapter, NoAdapter
from kdet.distill.methods import structural
from kdet.errors import InputError
from kdet.export import ExportedDetector, about_export
from kdet.types import Batch, Detector, Target
from yolo_fakes import yolo

CHANNELS = 32
"""Of every neck that has a choice, so that it is not they which call for an adapter."""


def set_detector(kind: str) -> Detector:
    pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers")
    from detr_fakes import tiny_detr

    return tiny_detr(kind)


def backbone() -> Detector:
    pytest.importorskip("timm", reason="foundation teachers need timm")
    return foundation("convnext_atto", options={"depths": (1, 1, 1, 1), "dims": (8, CHANNELS, CHANNELS, CHANNELS)})


class Own(torch.nn.Module):
    """A module that no library knows."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = torch.nn.Conv2d(3, CHANNELS, 8, 8)
        self.coarse = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.coarse(self.fine(images))


def own_module() -> Detector:
    def losses(module: torch.nn.Module, images: torch.Tensor, targets: list) -> dict[str, torch.Tensor]:
        return {"size": module(images).square().mean()}

    return kdet.wrap(Own(), CLASSES, features=["fine", "coarse"], strides=[8, 16], losses=losses)


TORCHVISION = ("retinanet", "fcos", "faster_rcnn", "cascade_rcnn", "atss", "gfl")
STUDENTS: dict[str, Callable[[], Detector]] = {
    **{name: lambda name=name: tiny(name, fpn_channels=CHANNELS) for name in TORCHVISION},
    "ssdlite": lambda: tiny("ssdlite"),
    **{kind: lambda kind=kind: set_detector(kind) for kind in ("rt_detr", "d_fine", "detr")},
    "yolo": lambda: wrap(yolo(), CLASSES),
    "wrapped": own_module,
}
QUICK = ("faster_rcnn", "rt_detr", "yolo")
"""One of each library and kind."""
TEACHERS = {**STUDENTS, "foundation": backbone}


def batch_of(student: Detector) -> Batch:
    """Three images for a model of this family; labels are columns of its class layer."""
    images, targets = images_and_targets()
    first = 0 if student.class_names[0] != CLASSES[0] else 1
    return student.batch(images, [Target(boxes=t["boxes"], labels=t["labels"] - first) for t in targets])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in STUDENTS]
)
def test_one_step_under_every_teacher(name: str) -> None:
    student = STUDENTS[name]()
    paired_teachers = [
        TeacherConfig(teacher=make(), terms=structural(), name=other) for other, make in TEACHERS.items()
    ]
    pair = Distiller(student, teachers=paired_teachers).train()
    assert pair.criterion is not None
    for other in TEACHERS:
        expected = NoAdapter if other == name else Adapter
        assert isinstance(pair.criterion.adapters[f"{other}/structural"], expected)
    report = pair(batch_of(student))
    assert all(report.parts[f"{other}/structural"].detach() > 0 for other in TEACHERS if other != name)
    report.total.backward()
    gradients = [p.grad for p in pair.model.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_an_exported_file_is_refused_as_a_teacher() -> None:
    about = about_export(tiny(), size_hw=None, batch=None, normalises=True, selects=True)
    exported = ExportedDetector(Path("student.onnx"), about, lambda canvas: [], "fp32")
    with pytest.raises(InputError, match=r"teacher \(retinanet, onnx\) has no feature maps.*the run that it came from"):
        Distiller(tiny(), exported, structural())


def test_the_architecture_does_not_depend_on_how_a_detector_was_made() -> None:
    own = wrap(RetinaNet(resnet_fpn_backbone(backbone_name="resnet18", weights=None), num_classes=4), CLASSES)
    assert own.build_arguments is None and own.architecture == tiny().architecture


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"backbone": "resnet18"}, True),
        ({"backbone": "resnet10", "width": 0.5}, True),
        ({"backbone": "resnet10", "norm": "group"}, True),
        ({"backbone": "mobilenet_v3_small", "width": 1.0}, False),
        ({"backbone": "resnext50_32x4d", "width": 1.0}, False),
    ],
)
def test_sizes_of_a_backbone_are_of_one_kind_and_other_networks_are_not(options: dict, same: bool) -> None:
    student = tiny(fpn_channels=CHANNELS)
    teacher = tiny(seed=2, fpn_channels=CHANNELS, **options)
    pair = Distiller(student, teacher, structural())
    assert pair.criterion is not None
    assert isinstance(pair.criterion.adapters["structural"], NoAdapter) == same


def test_versions_of_a_yolo_are_told_apart_by_their_blocks() -> None:
    class Block(torch.nn.Sequential):
        """What another version is built of."""

    plain, other = wrap(yolo(), CLASSES), yolo()
    other.model[1] = Block(*other.model[1])
    pair = Distiller(plain, wrap(other, CLASSES), structural())
    assert pair.criterion is not None and isinstance(pair.criterion.adapters["structural"], Adapter)
