"""What a student takes from its teacher, what it leaves, and that both are said."""

import pytest
import torch

from fakes import CLASSES, state_of, tiny
from kdet.detectors import inherit, inherit_frozen_norms
from kdet.detectors.parts import part_of
from kdet.errors import InputError

PARTS = {"neck": ("backbone.fpn.",), "head": ("backbone.fpn.", "head."), "all": ("",)}


def pair(name: str = "retinanet", **teachers):
    """One neck width; the teacher's backbone is wider, so that its tensors do not fit."""
    return tiny(name, seed=1), tiny(name, seed=2, **teachers)


@pytest.mark.parametrize("what", ["neck", "head", "all"])
def test_the_parts_asked_for_are_the_teachers_and_the_rest_is_as_it_was(what):
    student, teacher = pair()
    before = state_of(student.model)
    result = inherit(student, teacher, what)
    assert not result.left
    for name, tensor in student.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        asked = name.startswith(PARTS[what])
        assert (name in result.taken) == asked
        assert torch.equal(tensor, (teacher.model.state_dict() if asked else before)[name]), name


def test_the_teacher_is_left_alone_and_shares_no_memory():
    student, teacher = pair()
    before = state_of(teacher.model)
    inherit(student, teacher, "all")
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.model.state_dict().items())


def test_other_shapes_are_left_and_counted():
    student, teacher = pair(width=0.5)
    result = inherit(student, teacher, "all")
    assert set(result.left.values()) == {"other shapes"}
    assert all(name.startswith("backbone.") for name in result.left)
    first, second = result.describe()
    assert first.startswith(f"inherited from the teacher: {len(result.taken)} tensors (") and "of the head" in first
    assert second.startswith(f"not inherited, other shapes: {len(result.left)} tensors (backbone.")


def test_a_class_layer_in_another_order_is_never_taken():
    """Its shape agrees; taking it would turn circles into triangles."""
    student, teacher = pair(classes=CLASSES[::-1])
    before = state_of(student.model)
    result = inherit(student, teacher, "head")
    layer = [name for name in before if "cls_logits" in name]
    assert layer and set(layer) == set(result.left)
    assert set(result.left.values()) == {"the class lists differ in names or order"}
    assert all(torch.equal(student.model.state_dict()[name], before[name]) for name in layer)
    assert any("class lists differ" in line for line in result.describe())


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn", "ssdlite", "atss", "gfl"])
def test_every_family_inherits(name):
    student, teacher = pair(name)
    result = inherit(student, teacher, "head")
    assert result.taken and not result.left
    inherit(student, teacher, "neck")


def test_nothing_that_fits_is_an_error_with_a_way_out():
    student, teacher = pair(fpn_channels=64)
    with pytest.raises(InputError, match=r"inherit: neck: nothing of the teacher's fits the student \(other shapes\)"):
        inherit(student, teacher, "neck")


def test_a_backbone_that_was_trained_under_frozen_norms_brings_them_along(tmp_path):
    torch.save(tiny().model.backbone.body.state_dict(), tmp_path / "body.pth")
    student, teacher = tiny(seed=1), tiny(seed=2, backbone_weights=str(tmp_path / "body.pth"))
    inherit(student, teacher, "all")
    assert inherit_frozen_norms(student, teacher) and student.build_arguments["norm"] == "frozen"
    student.model.train()
    teacher.model.train()
    images = torch.rand(2, 3, 96, 96)
    for one, other in zip(
        student.model.backbone(images).values(), teacher.model.backbone(images).values(), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_teacher_with_batch_norm_changes_no_norm():
    student, teacher = pair()
    assert not inherit_frozen_norms(student, teacher) and student.build_arguments["norm"] == "batch"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("backbone.backbone.stem.conv.weight", "backbone"),  # YOLOX keeps its pyramid in what it calls the backbone
        *(
            (f"backbone.{layer}.conv.weight", "neck")
            for layer in ("lateral_conv0", "C3_p4", "reduce_conv1", "bu_conv2")
        ),
        ("model.conv_encoder.encoder_input_proj.0.0.weight", "neck"),  # DEIMv2
        ("encoder.fpn_blocks.0.conv1.weight", "neck"),  # RT-DETR and D-FINE of libreyolo
        ("decoder.decoder.layers.0.norm1.weight", "head"),
    ],
)
def test_the_parts_of_other_libraries_models(name, part):
    assert part_of(name) == part
