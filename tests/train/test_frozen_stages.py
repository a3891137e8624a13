"""What is frozen stays as it is, bit for bit, batch statistics too; what the backbone of each library freezes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small, resnet18, resnet50
from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d
from train_cases import recipe_of, records, run

import kdet
from detectors.hooked_cases import STRIDES, Custom, losses
from fakes import CLASSES, DETECTOR_NAMES, batch_for, same_state, state_of, tiny
from kdet.detectors import build
from kdet.distill import Distiller
from kdet.ops.modes import frozen_norms
from kdet.train import read_recipe
from kdet.train.build import resolved
from kdet.types import Batch, Detector
from suites import quick
from yolo_fakes import yolo

BODY = "backbone.body."
BACKBONES = ("resnet10", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
WIDE = ("resnet50",)


def steps(module: nn.Module, student: Detector, batch: Batch, count: int = 2) -> None:
    """Of plain SGD on everything that is trained, in training mode."""
    trained = [p for p in student.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4)
    for _ in range(count):
        module.train()
        module(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    after = model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_two_steps_leave_every_tensor_of_the_frozen_stages_as_it_was(backbone: str) -> None:
    width = 1.0 if backbone in WIDE else 0.25
    student = tiny(backbone=backbone, width=width, trainable_layers=2)
    before = state_of(student.model)
    fixed = {name for name in before if name.startswith(BODY) and name.split(".")[2] in frozen_stages(backbone)}
    assert len(fixed) > 20
    steps(Distiller(student), student, batch_for(student))
    moved = changed(student.model, before)
    assert not moved & fixed
    rest = {name for name in before if name.startswith(BODY)} - fixed
    assert {name for name in rest if name.endswith("running_mean")} <= moved


def frozen_stages(backbone: str) -> set[str]:
    """Direct parts of the body that torchvision freezes where two stages are trained; MobileNets by their strides."""
    blocks = {"mobilenet_v2": 14, "mobilenet_v3_small": 9, "mobilenet_v3_large": 13}  # where the last stride 2 is
    return set(map(str, range(blocks[backbone]))) if backbone in blocks else {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_a_frozen_backbone_is_frozen_in_every_detector(name: str) -> None:
    student = tiny(name, trainable_layers=0)
    before = state_of(student.model)
    steps(Distiller(student), student, batch_for(student))
    prefix = "backbone.features." if name == "ssdlite" else BODY
    own = {key for key in before if key.startswith(prefix)}
    moved = changed(student.model, before)
    assert len(own) > 50 and not moved & own and moved


def test_it_holds_without_the_distiller_and_under_ddp(tmp_path: Path) -> None:
    student = tiny(trainable_layers=0)
    student.model.train()
    before = state_of(student.model.backbone.body)
    batch = batch_for(student)
    student.observe(batch, frozenset({"features"}))
    assert same_state(before, state_of(student.model.backbone.body))
    own = tiny()
    own.model.backbone.body.requires_grad_(False)  # by its owner: these norms are torch's
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        before = state_of(own.model)
        steps(DistributedDataParallel(Distiller(own)), own, batch)
        moved = changed(own.model, before)
        assert moved and not any(name.startswith(BODY) for name in moved)
    finally:
        distributed.destroy_process_group()


def hooked(*, freeze: str) -> Detector:
    """A module of the user's own, of which a part is frozen."""
    model = Custom()
    model.get_submodule(freeze).requires_grad_(False)
    options = {"features": ["neck[p3]", "neck[p4]", "neck[p5]"], "strides": STRIDES, "losses": losses}
    return kdet.wrap(model, CLASSES, **options)


def labelled(detector: Detector) -> Batch:
    from fakes import images_and_targets

    images, targets = images_and_targets()
    return detector.batch(images, [{**t, "labels": t["labels"] - 1} for t in targets])


def test_a_scale_and_shift_that_are_frozen_alone_do_not_stop_the_statistics_as_torch_has_it() -> None:
    student = hooked(freeze="stem.1")
    before = state_of(student.model.stem)
    steps(Distiller(student), student, labelled(student))
    assert {"0.weight", "1.running_mean", "1.running_var"} <= changed(student.model.stem, before)


def test_a_yolos_first_layers() -> None:
    model: Any = yolo()
    model.model[1].requires_grad_(False)
    student = kdet.wrap(model, CLASSES)
    student.image_size = 96
    before = state_of(model.model)
    steps(Distiller(student), student, labelled(student))
    moved = changed(model.model, before)
    assert not any(name.startswith("1.") for name in moved) and "2.1.running_mean" in moved


def test_a_set_detectors_backbone() -> None:
    pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers")
    from detr_fakes import shared_batch, tiny_detr

    student = tiny_detr("rt_detr", freeze_backbone_batch_norms=False)
    student.model.model.backbone.requires_grad_(False)
    before = state_of(student.model)
    steps(Distiller(student), student, shared_batch(student))
    moved = changed(student.model, before)
    assert any(name.endswith("running_mean") for name in moved)
    assert not any(name.startswith("model.backbone.") for name in moved)


class Odd(nn.Module):
    """Norms in all the places where they stand: first in a block, last, alone in one, without scale and shift."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1))
        self.alone = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1)), nn.Sequential(nn.BatchNorm2d(4)))
        self.bare = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False))
        self.head = nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 4, 1), nn.InstanceNorm2d(4))


def test_norms_are_frozen_with_the_layer_beside_them() -> None:
    model = Odd()
    paths = {id(module): path for path, module in model.named_modules()}
    assert not list(frozen_norms(model))
    for part in ("first", "alone", "bare"):
        model.get_submodule(part).requires_grad_(False)
    assert [paths[id(norm)] for norm in frozen_norms(model)] == ["first.0", "alone.1.0", "bare.1"]


def test_the_log_says_how_many_norms_keep_their_statistics(tmp_path: Path) -> None:
    run(recipe_of(student={"trainable_layers": 3}, train={"epochs": 1}), tmp_path / "run")
    kept = [record["text"] for record in records(tmp_path / "run", "note")]
    assert any(text.endswith("; 3 norms in frozen layers keep their statistics") for text in kept)  # stem and stage 1


@pytest.mark.parametrize("layers", quick(range(5), lambda layers: layers in (0, 3)))
@pytest.mark.parametrize("build_body", [resnet18, resnet50, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large])
def test_the_stages_are_counted_as_torchvision_counts_them(build_body: Any, layers: int) -> None:
    name = build_body.__name__
    extractor = _mobilenet_extractor if name.startswith("mobilenet") else _resnet_fpn_extractor
    options = (True, layers) if name.startswith("mobilenet") else (layers,)
    theirs = extractor(build_body(weights=None), *options).body
    trained = {key for key, p in theirs.named_parameters() if p.requires_grad}
    ours = build("retinanet", classes=CLASSES, backbone=name, trainable_layers=layers, fpn_channels=32).model
    own = {key for key, p in ours.backbone.body.named_parameters() if p.requires_grad}
    assert own == trained
    frozen = {key for key, p in theirs.named_parameters() if not p.requires_grad}
    norms = {key.rpartition(".")[0] for key in frozen} - {key.rpartition(".")[0] for key in own}
    kinds = {type(ours.backbone.body.get_submodule(path)) for path in norms}
    assert nn.BatchNorm2d not in kinds and (FrozenBatchNorm2d in kinds) == bool(norms)


def test_the_log_and_the_record_say_what_was_taken_for_pretrained_weights(tmp_path: Path) -> None:
    torch.save(tiny().model.backbone.body.state_dict(), tmp_path / "body.pth")
    recipe = recipe_of(student={"backbone_weights": str(tmp_path / "body.pth")}, train={"epochs": 1})
    assert (recipe.student.norm, recipe.student.trainable_layers) == (None, None)
    run(recipe, tmp_path / "run")
    said = [record["text"] for record in records(tmp_path / "run", "note")]
    assert f"{tmp_path / 'body.pth'}: norm frozen, trainable_layers 3, as its library has it" in said
    recorded = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert (recorded.student.norm, recorded.student.trainable_layers) == ("frozen", 3)
    assert resolved(recorded) == recorded
