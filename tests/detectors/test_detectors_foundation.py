"""Backbones of timm and transformers: maps at their own strides, in the right place, and refusals in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import kdet
from fakes import images_and_targets, same_state, state_of, tiny
from kdet.detectors.backbones.foundation import FoundationDetector, foundation
from kdet.distill import prove_it_acts
from kdet.errors import InputError
from kdet.types import Batch, Need

VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2}
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
HF_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FEATURES = frozenset({Need.FEATURES})

MODELS: dict[str, dict[str, Any]] = {
    "timm ViT": {"name": "vit_tiny_patch16_224", "options": VIT},
    "timm DINOv2": {"name": "vit_small_patch14_dinov2", "options": VIT},
    "timm DINOv3": {"name": "vit_small_patch16_dinov3", "options": VIT},
    "timm ConvNeXt": {"name": "convnext_atto", "options": CONVNEXT},
    "transformers DINOv2": {"name": "dinov2", "library": "transformers", "options": HF_VIT | {"image_size": 56}},
    "transformers DINOv3": {
        "name": "dinov3_vit",
        "library": "transformers",
        "options": HF_VIT | {"num_register_tokens": 3},
    },
    "transformers ConvNeXt": {
        "name": "convnext",
        "library": "transformers",
        "options": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    },
}
STRIDES = {"timm DINOv2": (14,), "transformers DINOv2": (14,), "ConvNeXt": (8, 16, 32)}


def made(which: str) -> FoundationDetector:
    torch.manual_seed(0)
    detector = foundation(**MODELS[which])
    detector.model.eval()
    return detector


def batch_of(images: torch.Tensor) -> Batch:
    size = (int(images.shape[2]), int(images.shape[3]))
    return Batch(images=images, sizes_hw=[size], original_sizes_hw=[size], image_ids=[0])


def maps_of(detector: FoundationDetector, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return detector.observe(batch_of(images), FEATURES).features or []


@pytest.mark.parametrize("which", MODELS)
def test_levels_are_what_one_pass_gives(which: str) -> None:
    detector = made(which)
    own = next((strides for key, strides in STRIDES.items() if key in which), (16,))
    assert tuple(level.stride for level in detector.levels) == own
    maps = maps_of(detector, torch.rand(1, 3, 64, 96))
    for level, feature in zip(detector.levels, maps, strict=True):
        assert feature.shape == (1, level.channels, -(-64 // level.stride), -(-96 // level.stride))
    assert (detector.provides, detector.class_names, detector.predicts) == (FEATURES, (), False)


@pytest.mark.parametrize("which", MODELS)
def test_a_cell_stands_where_its_pixels_are(which: str) -> None:
    detector = made(which)
    image = torch.rand(1, 3, 64, 96)
    row, column, stride = 1, 3, detector.levels[0].stride
    changed = image.clone()
    changed[..., row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] += 1
    before, after = maps_of(detector, image)[0], maps_of(detector, changed)[0]
    difference = (after - before)[0].norm(dim=0)
    assert divmod(int(difference.argmax()), difference.shape[1]) == (row, column)


def test_patch_tokens_of_timm_are_taken_after_the_norm_and_without_the_class_token() -> None:
    detector = made("timm ViT")
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        tokens = detector.model.forward_features((images - 0.5) / 0.5)
    assert tokens.shape == (1, 1 + 4 * 6, 32)
    expected = tokens[0, 1:].reshape(4, 6, 32).permute(2, 0, 1)
    torch.testing.assert_close(maps_of(detector, images)[0][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("which", ["timm DINOv2", "transformers DINOv2"])
def test_what_is_no_multiple_of_the_patch_is_padded_at_the_right_and_bottom(which: str) -> None:
    detector = made(which)
    image = torch.rand(1, 3, 50, 64)
    (cut,) = maps_of(detector, image)
    assert cut.shape[2:] == (4, 5)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # what normalisation turns into 0
    whole = torch.cat([image, mean.expand(1, 3, 6, 64)], dim=2)
    whole = torch.cat([whole, mean.expand(1, 3, 56, 6)], dim=3)
    torch.testing.assert_close(maps_of(detector, whole)[0][..., :4, :5], cut, rtol=1e-4, atol=1e-5)


def test_cells_of_nothing_but_padding_are_cut_off() -> None:
    fine, middle, coarse = maps_of(made("timm ConvNeXt"), torch.rand(1, 3, 72, 72))
    assert (fine.shape[2], middle.shape[2], coarse.shape[2]) == (9, 5, 3)


def test_out_indices_choose_the_levels() -> None:
    two = foundation("convnext_atto", options=CONVNEXT | {"out_indices": [0, -1]})
    assert [(level.stride, level.channels) for level in two.levels] == [(4, 8), (32, 32)]
    with pytest.raises(InputError, match=r"out_indices: expected some of 0…3, got \[4\]"):
        foundation("convnext_atto", options=CONVNEXT | {"out_indices": [4]})
    hf = foundation(library="transformers", name="dinov2", options=HF_VIT | {"out_indices": [1, 2]})
    assert [level.stride for level in hf.levels] == [14, 14]


@pytest.mark.parametrize("which", ["timm DINOv2", "transformers ConvNeXt"])
def test_weights_come_from_a_file(which: str, tmp_path: Path) -> None:
    source = made(which)
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in source.native_state().items()}, path)
    torch.manual_seed(1)
    again = foundation(**MODELS[which], weights=str(path))
    assert same_state(state_of(source.model), state_of(again.model))
    other = {"embed_dim": 64} if "timm" in which else {"hidden_sizes": [8, 16, 24, 40]}
    with pytest.raises(InputError, match=r"size mismatch|made for another backbone") as caught:
        foundation(**(MODELS[which] | {"options": MODELS[which]["options"] | other}), weights=str(path))
    assert "\n" not in str(caught.value)


def test_a_folder_of_transformers_is_pretrained_and_says_its_own_normalisation(tmp_path: Path) -> None:
    source = made("transformers DINOv2")
    source.model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}')
    again = foundation(str(tmp_path), library="transformers", weights="pretrained")
    assert same_state(state_of(source.model), state_of(again.model))
    again.model.eval()
    shifted = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    image = torch.rand(1, 3, 56, 56)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(maps_of(again, image)[0], maps_of(source, (image - shifted) * std + mean)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "vit_smal_patch14_dinov2"},
            r"timm has no model 'vit_smal_patch14_dinov2'; near: .*vit_small_patch14_dinov2",
        ),
        ({"name": "vit_tiny_patch16_224", "options": {"dpth": 2}}, r"timm's vit_tiny_patch16_224: .*dpth"),
        ({"name": "vit_small_patch14_dinov2", "weights": "pretrained"}, r"weights of vit_small.* could not be had"),
        ({"name": "convnext_atto", "weights": "nowhere.pth"}, r"nowhere\.pth: no such weights file"),
        ({"name": "dinov2", "library": "torch"}, r"unknown library 'torch'; known: timm, transformers"),
        ({"name": "facebook/dinov2-small", "library": "transformers", "weights": "pretrained"}, r"could not be had"),
        ({"name": "facebook/dinov2-small", "library": "transformers"}, r"could not be had"),
        ({"name": "dinov2", "library": "transformers", "weights": "pretrained"}, r"such as facebook/dinov2-small"),
        ({"name": "resnet", "library": "transformers"}, r"resnet is no backbone .*no patches"),
        ({"name": "bert", "library": "transformers"}, r"bert is no backbone of transformers .*; timm may have it"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as caught:
        foundation(**arguments)
    assert "\n" not in str(caught.value)


def test_a_pickled_file_is_refused(tmp_path: Path) -> None:
    torch.save(tiny().model, tmp_path / "module.pth")
    with pytest.raises(InputError, match="not a file of plain tensors"):
        foundation("convnext_atto", weights=str(tmp_path / "module.pth"))


def test_it_detects_nothing() -> None:
    detector = made("timm ViT")
    with pytest.raises(InputError, match="features alone; it detects nothing"):
        detector.predict(detector.batch(images_and_targets()[0]))
    with pytest.raises(InputError, match="it has no head"):
        detector.head_from([])


@pytest.mark.parametrize("method", ["structural", "cosine"])
@pytest.mark.parametrize("which", ["timm ViT", "transformers ConvNeXt"])
def test_a_retinanet_learns_from_it_in_somebodys_loop(which: str, method: str) -> None:
    torch.manual_seed(0)
    teacher, student = kdet.foundation(**MODELS[which]), tiny()
    pair = kdet.Distiller(student, teacher, kdet.distill.METHODS[method].terms()).train()
    before = state_of(teacher.model)
    images, targets = images_and_targets()
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.01)
    prove_it_acts(pair, student.batch(images, targets), optimizer)
    shown = []
    for _ in range(2):
        optimizer.zero_grad()
        report = pair(images, targets)
        report.parts[method].backward()
        optimizer.step()
        shown.append(float(report.parts[method].detach()))
    assert 0 < shown[1] < shown[0] and same_state(before, state_of(teacher.model))


def test_terms_on_class_scores_are_refused() -> None:
    with pytest.raises(InputError, match=r"rank_mimicking reads class logits, which the teacher"):
        kdet.Distiller(tiny(), made("timm ViT"), kdet.methods.rank_mimicking())
