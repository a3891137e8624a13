"""Backbones of torchvision and timm by name: their maps, their weights, and what is frozen."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from fakes import CLASSES, batch_for, state_of
from kdet.detectors import build, rebuild
from kdet.detectors.plain.backbones import make_body
from kdet.detectors.plain.library_bodies import LIBRARY_BACKBONES, stage_ends
from kdet.detectors.weights import read_weights
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.train.state.run_folder import save_student
from kdet.types import Need
from suites import quick

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights"
LITE0 = WEIGHTS / "tf_efficientnet_lite0.safetensors"
STAGES = {
    "efficientnet_b0": {"features.2": 24, "features.3": 40, "features.5": 112, "features.7": 320},
    "regnet_y_400mf": {f"trunk_output.block{k + 1}": c for k, c in enumerate((48, 104, 208, 440))},
    "shufflenet_v2_x0_5": {"maxpool": 24, "stage2": 48, "stage3": 96, "stage4": 192},
    "convnext_tiny": {f"features.{2 * k + 1}": c for k, c in enumerate((96, 192, 384, 768))},
}
"""Published widths of the stages at strides 4, 8, 16, 32, and torchvision's names of the layers that give them."""
SMALL = ("shufflenet_v2_x0_5", "timm/tf_efficientnet_lite0")


def made(backbone: str, detector: str = "retinanet", **options: Any) -> Any:
    torch.manual_seed(0)
    return build(detector, classes=CLASSES, backbone=backbone, fpn_channels=32, image_size=64, **options)


@pytest.mark.parametrize("backbone", STAGES)
def test_the_maps_are_those_of_the_librarys_own_layers(backbone: str) -> None:
    """Weights of the classifier that torchvision builds, taken by its own feature extractor at the published layers."""
    torch.manual_seed(0)
    whole = get_model(backbone, weights=None).eval()
    body = make_body(backbone, 1.0, nn.BatchNorm2d, state=whole.state_dict(), trainable_layers=5).eval()
    names = STAGES[backbone]
    expected = create_feature_extractor(whole, list(names))(torch.ones(1, 3, 64, 96))
    maps = torch.ones(1, 3, 64, 96)
    found: list[torch.Tensor] = []
    ends = [index for index, _ in stage_ends(body)[1:]]
    for index, block in enumerate(body.children()):
        maps = block(maps)
        found += [maps] if index in ends else []
    assert [f.shape[1] for f in found] == list(names.values())
    assert [(64 // f.shape[2], 96 // f.shape[3]) for f in found] == [(4, 4), (8, 8), (16, 16), (32, 32)]
    for own, theirs in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(own, theirs)


def test_all_of_torchvisions_names_of_these_families_are_known() -> None:
    assert {name.split("_")[0] for name in LIBRARY_BACKBONES} == {"convnext", "efficientnet", "regnet", "shufflenet"}
    assert "efficientnet_v2_s" in LIBRARY_BACKBONES and "regnet_x_400mf" in LIBRARY_BACKBONES


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize(
    "detector",
    quick(
        ["retinanet", "fcos", "atss", "gfl", "faster_rcnn", "cascade_rcnn"],
        lambda name: name in ("atss", "faster_rcnn"),
    ),
)
def test_every_detector_learns_on_it_and_comes_back_from_its_file(backbone: str, detector: str, tmp_path: Path) -> None:
    if backbone.startswith("timm"):
        pytest.importorskip("timm", reason="needs timm")
    student = made(backbone, detector)
    batch = batch_for(student)
    before = state_of(student.model)
    optimizer = torch.optim.SGD(student.model.parameters(), lr=0.01)
    Distiller(student).train()(batch).total.backward()
    optimizer.step()
    after = student.model.state_dict()
    trained = [name for name, _ in student.model.named_parameters() if name.startswith("backbone.body.")]
    assert sum(not torch.equal(before[name], after[name]) for name in trained) > 0.9 * len(trained)
    save_student(student, student.native_state(), tmp_path / "student.safetensors")
    again = rebuild(read_weights(tmp_path / "student.safetensors"))
    with torch.no_grad():
        student.model.eval(), again.model.eval()
        own, theirs = (d.observe(batch, frozenset({Need.FEATURES})).features for d in (student, again))
    assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize(("layers", "fixed_from"), [(0, 32), (2, 8), (4, 2)])
def test_the_frozen_stages_stay_as_they_were(backbone: str, layers: int, fixed_from: int) -> None:
    """All that the map of this stride depends on is fixed, and nothing that only a coarser one depends on."""
    if backbone.startswith("timm"):
        pytest.importorskip("timm", reason="needs timm")
    student = made(backbone, trainable_layers=layers)
    before = state_of(student.model)
    batch = batch_for(student)
    optimizer = torch.optim.SGD(student.model.parameters(), lr=0.01)
    for _ in range(2):
        Distiller(student).train()(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, value in student.model.state_dict().items() if not torch.equal(before[name], value)}
    moved = {name.removeprefix("backbone.body.").removeprefix("net.") for name in moved if "backbone.body" in name}
    starts = {
        "shufflenet_v2_x0_5": {0: (), 2: ("stage3", "stage4"), 4: ("stage2", "stage3", "stage4")},
        "timm/tf_efficientnet_lite0": {
            0: (),
            2: tuple(f"blocks.{k}." for k in (3, 4, 5, 6)),
            4: tuple(f"blocks.{k}." for k in range(1, 7)),
        },
    }[backbone][layers]
    assert all(name.startswith(starts) for name in moved), sorted(moved)[:5]
    assert all(any(name.startswith(start) for name in moved) for start in starts)


@pytest.mark.skipif(not LITE0.exists(), reason="needs ../shared/data/weights")
def test_real_weights_of_timm_give_timms_own_features() -> None:
    timm = pytest.importorskip("timm", reason="needs timm")
    detector = made("timm/tf_efficientnet_lite0", backbone_weights=str(LITE0))
    assert detector.model.transform.image_mean == [0.5, 0.5, 0.5]  # Google's lite networks, not ImageNet's mean
    assert (detector.build_arguments["norm"], detector.build_arguments["trainable_layers"]) == ("frozen", 3)
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    theirs.load_state_dict(load_file(LITE0), strict=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        own = detector.model.eval().backbone.body(images)
        for mine, other in zip(own, theirs(images)[1:], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)  # in another memory layout


@pytest.mark.parametrize("norm", ["frozen", "eval"])
def test_norms_with_fixed_statistics_keep_them(norm: str, tmp_path: Path) -> None:
    """`eval` trains scale and shift, `frozen` neither."""
    torch.manual_seed(0)
    save_file(get_model("shufflenet_v2_x0_5", weights=None).state_dict(), tmp_path / "weights.safetensors")
    student = made(
        "shufflenet_v2_x0_5", backbone_weights=str(tmp_path / "weights.safetensors"), norm=norm, trainable_layers=5
    )
    before = state_of(student.model)
    optimizer = torch.optim.SGD([p for p in student.model.parameters() if p.requires_grad], lr=0.01)
    Distiller(student).train()(batch_for(student)).total.backward()
    optimizer.step()
    norms = {n for n, m in student.model.backbone.body.named_modules() if isinstance(m, nn.BatchNorm2d)}
    after = student.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    of_norms = {f"backbone.body.{name}.{kind}" for name in norms for kind in ("running_mean", "running_var")}
    assert not moved & of_norms
    affine = {f"backbone.body.{name}.weight" for name in norms}
    assert (len(moved & affine) > 0.5 * len(affine)) is (norm == "eval") and len(norms) > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": "efficientnet_b9"},
            r"unknown backbone 'efficientnet_b9'; near: efficientnet_b\d, .* timm/NAME",
        ),
        ({"backbone": "timm/no_such_net"}, r"retinanet with timm/no_such_net .*no_such_net"),
        ({"backbone": "timm/vit_tiny_patch16_224"}, r"retinanet with timm/vit_tiny_patch16_224 .*maps of strides"),
        ({"backbone": "regnet_y_400mf", "width": 0.5}, "expected width 1 for regnet_y_400mf, got 0.5"),
        ({"backbone": "shufflenet_v2_x0_5", "norm": "group"}, "norm batch, frozen or eval, got group"),
        (
            {"backbone": "timm/resnet18", "backbone_weights": "pretrained"},
            "timm's weights of resnet18 could not be had",
        ),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as caught:
        made(**options)
    assert "\n" not in str(caught.value)
