"""Detectors from plain arguments: norms, frozen layers, backbone weights, and refusals in one clear line."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import MobileNetV2, mobilenet_v3_small, resnet18
from torchvision.ops import FrozenBatchNorm2d

from fakes import CLASSES, DETECTOR_NAMES, images_and_targets, same_state, tiny
from kdet.detectors import backbone_defaults, build
from kdet.detectors.plain import load_student
from kdet.detectors.plain.backbones import EvalBatchNorm2d
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.train.state.run_folder import save_student
from kdet.types import Need
from suites import quick

BODY = "backbone.body."
PRETRAINED = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"


def kinds(model: nn.Module) -> set[type[nn.Module]]:
    """Classes of the normalisation layers inside a backbone's body."""
    norms = (nn.BatchNorm2d, nn.GroupNorm, FrozenBatchNorm2d)
    return {
        type(module) for name, module in model.named_modules() if name.startswith(BODY) and isinstance(module, norms)
    }


@pytest.mark.parametrize("name", DETECTOR_NAMES)
@pytest.mark.parametrize(
    "backbone", quick(["resnet18", "mobilenet_v2", "mobilenet_v3_small"], lambda b: b == "mobilenet_v2")
)
def test_every_detector_trains_with_a_torchvision_backbone(name: str, backbone: str) -> None:
    detector = tiny(name) if name == "ssdlite" else tiny(name, backbone=backbone, width=1.0)
    images, targets = images_and_targets()
    batch = detector.batch(images, targets)
    detector.model.train()
    losses = detector.observe(batch, frozenset({Need.LOSSES}), batch.targets).losses
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()


@pytest.mark.parametrize("backbone", ["resnet10", "mobilenet_v2", "mobilenet_v3_small"])
def test_group_norm_leaves_no_batch_statistics_in_the_backbone(backbone: str) -> None:
    assert kinds(tiny(backbone=backbone, norm="group").model) == {nn.GroupNorm}
    assert kinds(tiny(backbone=backbone).model) == {nn.BatchNorm2d}


def test_frozen_norm_is_refused_on_random_weights() -> None:
    with pytest.raises(InputError, match=r"frozen.*random weights"):
        tiny(norm="frozen")


def body_file(folder: Path, width: float = 0.25) -> str:
    """Weights of a narrow ResNet-10's classifier, with statistics that are no default."""
    body = tiny(width=width, seed=3).model.backbone.body
    save_file({key: value.contiguous() for key, value in body.state_dict().items()}, folder / "body.safetensors")
    return str(folder / "body.safetensors")


def test_eval_norms_keep_their_statistics_and_train_scale_and_shift(tmp_path: Path) -> None:
    """mmdetection's norm_eval; the same function as under frozen norms, before the first step."""
    given = body_file(tmp_path)
    detector, frozen = (
        tiny(backbone_weights=given, norm=norm, trainable_layers=5, seed=1) for norm in ("eval", "frozen")
    )
    detector.model.load_state_dict(frozen.model.state_dict(), strict=False)  # it does not count batches
    student = Distiller(detector).train()
    images, targets = images_and_targets()
    batch = detector.batch(images, targets)
    seen, fixed = (d.observe(batch, frozenset({Need.FEATURES})).features for d in (detector, frozen))
    assert seen is not None and fixed is not None
    for one, other in zip(seen, fixed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    before = {name: tensor.clone() for name, tensor in detector.model.named_buffers() if "running" in name}
    student(batch).total.backward()
    norms = {n: p for n, p in detector.model.named_parameters() if n.startswith(BODY) and ".bn" in f".{n}"}
    assert norms and all(p.grad is not None and p.grad.abs().max() > 0 for p in norms.values())
    assert all(torch.equal(tensor, before[n]) for n, tensor in detector.model.named_buffers() if "running" in n)


def test_eval_norms_come_back_from_the_students_file(tmp_path: Path) -> None:
    detector = tiny(backbone_weights=body_file(tmp_path), norm="eval", trainable_layers=3)
    assert kinds(detector.model) == {EvalBatchNorm2d, FrozenBatchNorm2d}  # the frozen stages' are frozen altogether
    save_student(detector, detector.native_state(), tmp_path / "student.safetensors")
    again = load_student(str(tmp_path / "student.safetensors"))[0]
    assert kinds(again) == {EvalBatchNorm2d, FrozenBatchNorm2d}
    assert same_state(again.state_dict(), detector.model.state_dict())


def test_eval_norms_are_refused_where_they_normalise_nothing_or_are_not_there() -> None:
    with pytest.raises(InputError, match=r"norm 'eval' normalises nothing on random weights"):
        tiny(norm="eval")
    with pytest.raises(InputError, match=r"norm 'eval' goes with backbone_weights; weights RetinaNet"):
        build("retinanet", classes=CLASSES, weights="RetinaNet_ResNet50_FPN_Weights.COCO_V1", norm="eval")


@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", "gfl"])
@pytest.mark.parametrize("width", [0.25, 0.5])
def test_p6_is_made_of_p5_or_of_the_backbones_last_stage(name: str, width: float) -> None:
    """Where C5 is as wide as the neck, the two differ by nothing but where they come from."""
    for p6 in ("p5", "c5"):
        detector = tiny(name, width=width, fpn_channels=int(512 * width) if name != "fcos" else 128, p6=p6)
        backbone = detector.model.eval().backbone
        given: dict[str, torch.Tensor] = {}
        backbone.fpn.extra_blocks.p6.register_forward_pre_hook(partial(keep_input, given))
        c5 = backbone.body(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)))["2"]
        maps = list(backbone(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))).values())
        assert [m.shape[1] for m in maps] == [maps[0].shape[1]] * 5
        assert torch.equal(given["p6"], c5 if p6 == "c5" else maps[2])


def keep_input(given: dict[str, torch.Tensor], module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Hook."""
    given["p6"] = inputs[0]


def test_p6_is_refused_where_there_is_none() -> None:
    with pytest.raises(InputError, match=r"p6: faster_rcnn has no such levels; leave it out, or use retinanet"):
        tiny("faster_rcnn", p6="c5")


def test_a_narrow_neck_gets_group_norm_in_retinanets_head_unless_told_otherwise() -> None:
    assert any(isinstance(m, nn.GroupNorm) for m in tiny().model.head.modules())
    assert not any(isinstance(m, nn.GroupNorm) for m in tiny(head_norm=False).model.head.modules())
    assert not any(isinstance(m, nn.GroupNorm) for m in tiny(fpn_channels=256).model.head.modules())


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        (0, set()),
        (1, {"layer4"}),
        (3, {"layer4", "layer3", "layer2"}),
        (5, {"conv1", "bn1", *(f"layer{i}" for i in range(1, 5))}),
    ],
)
def test_trainable_layers_count_from_the_deep_end(layers: int, trained: set[str]) -> None:
    model = tiny(trainable_layers=layers).model
    names = [
        name.removeprefix(BODY) for name, p in model.named_parameters() if name.startswith(BODY) and p.requires_grad
    ]
    assert {name.split(".")[0] for name in names} == trained
    assert all(p.requires_grad for name, p in model.named_parameters() if not name.startswith(BODY))


def test_mobilenet_and_ssdlite_freeze_whole_or_in_part() -> None:
    def shares(model: nn.Module, prefix: str) -> float:
        own = [p.requires_grad for name, p in model.named_parameters() if name.startswith(prefix)]
        return sum(own) / len(own)

    assert shares(tiny(backbone="mobilenet_v3_small", trainable_layers=0).model, BODY) == 0
    assert 0 < shares(tiny(backbone="mobilenet_v3_small", trainable_layers=3).model, BODY) < 1
    assert shares(tiny("ssdlite", trainable_layers=0).model, "backbone.features") == 0
    with pytest.raises(InputError, match="trainable_layers 0 or 5"):
        tiny("ssdlite", trainable_layers=3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_backbone_weights_come_from_a_classifiers_file(tmp_path: Path, suffix: str, norm: str) -> None:
    state = resnet18(weights=None).state_dict()
    path = tmp_path / f"resnet18{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    options = {"backbone_weights": str(path), "norm": norm, "trainable_layers": 5}
    model = tiny(backbone="resnet18", width=1.0, **options).model
    body = {k: v for k, v in model.backbone.body.state_dict().items() if "num_batches" not in k}
    norms = ("running_mean", "running_var")  # the shared fake moves those of BatchNorm on purpose
    loaded = {k: v for k, v in body.items() if norm == "frozen" or not k.endswith(norms)}
    assert same_state(loaded, {k: state[k] for k in loaded})
    assert kinds(model) == {FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d}


def test_backbone_weights_of_mobilenet_lie_under_features(tmp_path: Path) -> None:
    state = mobilenet_v3_small(weights=None).state_dict()
    torch.save(state, tmp_path / "m.pth")
    model = tiny(backbone="mobilenet_v3_small", width=1.0, backbone_weights=str(tmp_path / "m.pth")).model
    assert torch.equal(model.get_parameter(f"{BODY}0.0.weight"), state["features.0.0.weight"])


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize(
    ("file", "width"),
    [("mobilenet_v2_imagenet1k_v1.safetensors", 1.0), ("mobilenet_v2_035_imagenet.safetensors", 0.35)],
)
def test_pretrained_mobilenet_v2_of_any_width_gives_the_maps_of_torchvisions(
    name: str, file: str, width: float
) -> None:
    if not PRETRAINED.is_dir():
        pytest.skip(f"no pretrained weights in {PRETRAINED}")
    arguments = {"backbone": "mobilenet_v2", "width": width, "fpn_channels": 32, "image_size": 64}
    made = build(name, classes=CLASSES, backbone_weights=str(PRETRAINED / file), **arguments)
    bare = MobileNetV2(width_mult=width)
    state = load_file(PRETRAINED / file)
    unknown = [key for key in bare.load_state_dict(state, strict=False).missing_keys if "num_batches" not in key]
    assert all(key.startswith("classifier.") for key in unknown)
    image, expected = torch.rand(1, 3, 64, 64), list[torch.Tensor]()
    with torch.no_grad():
        found = list(made.model.backbone.body.eval()(image).values())
        seen = image
        for index, block in enumerate(bare.features.eval()):
            seen = block(seen)
            if index in (2, 4, 7, 18):  # the first blocks at strides 4, 8 and 16, and the last one
                expected.append(seen)
    for ours, theirs in zip(found, expected[-len(found) :], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)  # of the order of the memory format
    assert len(found) == (3 if name == "retinanet" else 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detector": "yolo"}, "unknown detector 'yolo'; known: retinanet, fcos, faster_rcnn, cascade_rcnn, ssdlite"),
        ({"backbone": "vgg16"}, "unknown backbone 'vgg16'; `kdet list detectors` has their names"),
        ({"norm": "layer"}, "unknown norm 'layer'; known: batch, frozen, group"),
        ({"backbone": "resnet50", "width": 0.5}, "expected width 1 for resnet50"),
        ({"classes": []}, "class list is empty"),
        ({"classes": ["cat", "dog", "cat"]}, "'cat' stands twice"),
        ({"detector": "ssdlite", "backbone": "resnet18"}, "backbone mobilenet_v3_large for ssdlite"),
        ({"weights": "nowhere.pth"}, "nowhere.pth: no such weights file"),
        ({"weights": "ResNet50_Weights.NOTHING"}, "neither a file nor weights of torchvision"),
        ({"backbone_weights": "nowhere.safetensors"}, "nowhere.safetensors: no such weights file"),
        ({"detector": "fcos", "fpn_channels": 40}, "fcos"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        build(**({"detector": "retinanet", "classes": CLASSES, "image_size": 64} | arguments))


def test_weights_of_another_backbone_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match="layer1") as caught:
        build("retinanet", classes=CLASSES, backbone="resnet34", backbone_weights=str(tmp_path / "resnet18.pth"))
    assert "\n" not in str(caught.value)


def test_backbone_weights_of_another_width_are_refused_with_the_tensor_and_both_shapes(tmp_path: Path) -> None:
    torch.save(tiny(width=0.25).model.backbone.body.state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(InputError, match=r"conv1\.weight.*\(32, 3, 7, 7\).*\(16, 3, 7, 7\)") as caught:
        tiny(width=0.5, backbone_weights=str(tmp_path / "narrow.pth"))
    assert "\n" not in str(caught.value)


def settled(**arguments: Any) -> tuple[str, int]:
    """Norm and trained stages that a detector was built with, as its file will say."""
    found = tiny(**arguments).build_arguments
    assert found is not None
    return found["norm"], found["trainable_layers"]


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "gfl"])
def test_a_pretrained_backbone_has_frozen_norms_and_three_trained_stages_as_in_torchvision(
    tmp_path: Path, detector: str
) -> None:
    """torchvision: `FrozenBatchNorm2d if is_trained`, and `_validate_trainable_layers(is_trained, None, 5, 3)`."""
    torch.save(tiny().model.backbone.body.state_dict(), tmp_path / "body.pth")
    weights = {"backbone_weights": str(tmp_path / "body.pth")}
    assert settled(detector=detector) == ("batch", 5)
    assert settled(detector=detector, **weights) == ("frozen", 3)
    assert settled(detector=detector, **weights, norm="batch") == ("batch", 3)
    assert settled(detector=detector, **weights, trainable_layers=5) == ("frozen", 5)
    assert kinds(tiny(detector, **weights).model) == {FrozenBatchNorm2d}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_weights_of_a_detector_keep_the_norm_that_they_were_made_with(tmp_path: Path, norm: str) -> None:
    made = tiny(norm=norm, trainable_layers=4)
    save_student(made, made.native_state(), tmp_path / "student.safetensors")
    assert settled(weights=str(tmp_path / "student.safetensors")) == (norm, 4)
    torch.save(made.model.state_dict(), tmp_path / "plain.pth")
    assert settled(weights=str(tmp_path / "plain.pth")) == (norm, 3)


def test_a_plain_file_without_counts_of_batches_was_made_under_frozen_norms(tmp_path: Path) -> None:
    state = {key: value for key, value in tiny().model.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "plain.pth")
    assert settled(weights=str(tmp_path / "plain.pth")) == ("frozen", 3)


@pytest.mark.parametrize(
    ("detector", "name", "expected"),
    [
        ("retinanet", "RetinaNet_ResNet50_FPN_Weights.COCO_V1", ("frozen", 3)),
        ("retinanet", "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1", ("batch", 3)),
        ("faster_rcnn", "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1", ("frozen", 3)),
        ("faster_rcnn", "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1", ("batch", 3)),
        ("ssdlite", "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1", ("batch", 5)),
        ("ssdlite", "SSD300_VGG16_Weights.COCO_V1", ("batch", 5)),
    ],
)
def test_torchvisions_own_weights_have_the_norms_of_their_builders(
    detector: str, name: str, expected: tuple[str, int]
) -> None:
    assert backbone_defaults(detector, name, None) == expected
    assert backbone_defaults(detector, name, None, "group", 0) == ("group", 0)


def test_older_runs_of_other_libraries_spelt_out_what_was_not_theirs_to_say() -> None:
    """Their recipes hold `norm: batch` and `trainable_layers: 5`."""
    with pytest.raises(InputError, match="leave out norm, trainable_layers"):
        build("hf", classes=CLASSES, config={"model_type": "detr"}, norm="batch", trainable_layers=3)
    with pytest.raises(InputError, match="model_type"):  # further on
        build("hf", classes=CLASSES, config={"model_type": "nothing"}, norm="batch", trainable_layers=5)
