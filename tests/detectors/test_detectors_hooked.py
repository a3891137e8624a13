"""Any module by its taps: what is seen, in how many passes, and what is left behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hooked_cases import FEATURES, STRIDES, Custom, hooks_of, losses, predict, wrapped
from safetensors.torch import load_file
from torch import nn

import kdet
from fakes import images_and_targets, same_state, state_of, tiny
from kdet.detectors import read_weights, rebuild
from kdet.detectors.plain import load_student
from kdet.distill import prove_it_acts
from kdet.errors import InputError
from kdet.train.state.run_folder import save_student
from kdet.types import Need, Target

ONLY_FEATURES = frozenset({Need.FEATURES})


def zero_based() -> tuple[list[torch.Tensor], list[Target]]:
    """Labels of a list without a background."""
    images, targets = images_and_targets()
    return images, [Target(boxes=t["boxes"], labels=t["labels"] - 1) for t in targets]


def passes(module: nn.Module) -> list[int]:
    """One entry per forward pass from now on."""
    seen: list[int] = []
    module.register_forward_pre_hook(lambda *_: seen.append(1))
    return seen


def test_levels_are_measured_and_nothing_of_the_module_changes() -> None:
    model = Custom().train()
    model.stem.eval()
    before, keys = state_of(model), list(model.state_dict())
    detector = wrapped(model)
    assert [(level.stride, level.channels) for level in detector.levels] == [(8, 8), (16, 8), (32, 8)]
    assert same_state(before, state_of(model)) and list(detector.native_state()) == keys
    assert model.training and not model.stem.training and hooks_of(model) == 0
    assert detector.provides == ONLY_FEATURES and not detector.predicts and detector.build_arguments is None


def test_features_are_those_of_the_modules_own_pass() -> None:
    detector = wrapped(normalize=((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)))
    detector.model.eval()
    batch = detector.batch(*zero_based())
    seen = detector.observe(batch, ONLY_FEATURES)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.5])
    image = torch.zeros(3, *batch.images.shape[2:])
    h, w = batch.sizes_hw[1]
    image[:, :h, :w] = ((batch.images[1].permute(1, 2, 0) - mean) / std).permute(2, 0, 1)[:, :h, :w]
    expected = detector.model.neck(detector.model.stem(image[None]))
    for feature, own in zip(seen.features or [], expected.values(), strict=True):
        torch.testing.assert_close(feature[1:2], own, rtol=1e-4, atol=1e-5)
    assert hooks_of(detector.model) == 0


def test_losses_and_features_come_from_one_pass() -> None:
    detector = wrapped(losses=losses)
    batch = detector.batch(*zero_based())
    count = passes(detector.model)
    seen = detector.observe(batch, ONLY_FEATURES | {Need.LOSSES}, batch.targets)
    assert len(count) == 1 and seen.losses.keys() == {"count"} and len(seen.features or []) == 3
    gradient = torch.autograd.grad(seen.losses["count"], seen.features[0])[0]  # one graph
    assert bool(gradient.abs().max() > 0)


def test_a_cheap_path_leaves_the_head_out() -> None:
    detector = wrapped(forward=lambda module, images: module.neck(module.stem(images)))
    head = passes(detector.model.head)
    assert len(detector.observe(detector.batch(*zero_based()), ONLY_FEATURES).features or []) == 3
    assert not head


def test_hooks_are_gone_after_a_pass_that_fails() -> None:
    def broken(module: nn.Module, images: torch.Tensor, targets: object) -> dict[str, torch.Tensor]:
        module(images)
        raise RuntimeError("out of luck")

    detector = wrapped(losses=broken)
    batch = detector.batch(*zero_based())
    with pytest.raises(RuntimeError, match="out of luck"):
        detector.observe(batch, frozenset({Need.LOSSES}), batch.targets)
    assert hooks_of(detector.model) == 0


@pytest.mark.parametrize(("size", "expected"), [(None, (96, 80)), (64, (64, 53)), ((48, 64), (57, 48))])
def test_images_keep_their_size_unless_one_is_given(size: Any, expected: tuple[int, int]) -> None:
    batch = wrapped(image_size=size).batch([torch.rand(3, 96, 80)])
    assert batch.sizes_hw == [expected]
    assert batch.images.shape[2] % 32 == batch.images.shape[3] % 32 == 0


def test_predictions_are_the_users_best_first() -> None:
    detector = wrapped(predict=predict)
    found = detector.predict(detector.batch(*zero_based()))
    assert len(found) == 3 and detector.predicts
    assert found[0].labels.tolist() == [2, 1] and found[0].boxes[0].tolist() == [0, 0, 80, 96]
    with pytest.raises(InputError, match="wrapped without `predict=`"):
        wrapped().predict(detector.batch(*zero_based()))


def test_a_custom_teacher_is_distilled_into_an_fcos_in_two_steps() -> None:
    teacher = wrapped(classes=())
    student = tiny("fcos")
    pair = kdet.Distiller(student, teacher, kdet.methods.structural()).train()
    before = state_of(teacher.model)
    images, targets = images_and_targets()
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.01)
    values = prove_it_acts(pair, student.batch(images, targets), optimizer)
    shown = []
    for _ in range(2):
        optimizer.zero_grad()
        report = pair(images, targets)
        report.parts["structural"].backward()
        optimizer.step()
        shown.append(float(report.parts["structural"].detach()))
    assert values["structural"] > 0 and shown[1] < shown[0]
    assert same_state(before, state_of(teacher.model)) and hooks_of(teacher.model) == 0


def test_a_custom_student_learns_from_a_retinanet_and_its_file_is_its_own(tmp_path: Path) -> None:
    student = wrapped(losses=losses)
    keys = set(student.model.state_dict())
    pair = kdet.Distiller(student, tiny(), kdet.methods.structural()).train()
    images, targets = zero_based()
    prove_it_acts(pair, student.batch(images, targets))
    report = pair(images, targets)
    assert report.parts.keys() == {"task/count", "structural"}
    report.total.backward()
    assert student.model.stem[0].weight.grad is not None
    path = tmp_path / "student.safetensors"
    save_student(student, student.native_state(), path)
    assert set(load_file(path)) == keys
    Custom().load_state_dict(load_file(path))
    with pytest.raises(InputError, match="cannot build it; build it yourself"):
        rebuild(read_weights(path))
    with pytest.raises(ValueError, match="build it with its own source"):
        load_student(str(path))


class Detached(Custom):
    """Levels that no gradient passes through."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.stem(images).detach())["p3"])


def test_the_proof_catches_features_that_are_detached() -> None:
    student = wrapped(Detached(), losses=losses, features=FEATURES[:1], strides=STRIDES[:1])
    pair = kdet.Distiller(student, tiny(), kdet.methods.l2())
    images, targets = zero_based()
    with pytest.raises(InputError, match=r"no gradient reaches the student; are its features detached"):
        prove_it_acts(pair.train(), student.batch(images, targets))


def test_the_proof_catches_a_module_that_sees_other_pixels() -> None:
    teacher = wrapped(forward=lambda module, images: module(images.flip(3)))
    pair = kdet.Distiller(tiny(), teacher, kdet.methods.structural()).train()
    with pytest.raises(InputError, match="the teacher does not see the batch's pixels"):
        prove_it_acts(pair, tiny().batch(*images_and_targets()))


def test_a_student_needs_losses() -> None:
    student = wrapped()
    pair = kdet.Distiller(student, tiny(), kdet.methods.structural())
    with pytest.raises(InputError, match="wrapped without `losses=`"):
        pair(*zero_based())


def test_a_torchvision_detector_takes_no_taps() -> None:
    with pytest.raises(InputError, match=r"strides, predict belong to a module with taps"):
        kdet.wrap(tiny().model, ["a", "b", "c"], strides=[8], predict=predict)
