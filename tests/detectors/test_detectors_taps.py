"""Taps that cannot be: each is refused in one line that says what was found."""

from typing import Any

import pytest
import torch
from hooked_cases import STRIDES, Custom, hooks_of, losses, wrapped
from torch import Tensor, nn

from kdet.errors import InputError


class Flat(Custom):
    """A head without a map."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten(1)


class Twice(Custom):
    """A stem that is called for two inputs."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.head(self.stem(images))


@pytest.mark.parametrize(
    ("model", "tap", "message"),
    [
        (Custom, "nekc", r"no module 'nekc'; near: .*neck"),
        (Custom, "neck.dwn.0", r"no module 'neck\.dwn\.0'; near: .*neck\.down\.0"),
        (Custom, "zzzzzz", r"no module 'zzzzzz'; it has stem, neck, head, spare"),
        (Custom, "neck[", r"expected a module's path"),
        (Custom, "", r"expected a module's path"),
        (Custom, "neck", r"expected a tensor N×C×H×W, got a mapping; pick one of \[p3\], \[p4\], \[p5\]"),
        (Custom, "neck[p9]", r"no \[p9\] in this output; its keys are p3, p4, p5"),
        (Custom, "stem[0][p3]", r"there is no \[0\] in this output; it is a tensor"),
        (Custom, "spare", r"it never ran in this pass"),
        (Twice, "stem", r"it ran 2 times in one pass"),
        (Flat, "[0]", r"no \[0\] in this output; it is a tensor of shape \(1, 192\)"),
        (lambda: Custom(inplace=True), "stem.1", r"writes into this output in place"),
    ],
)
def test_a_wrong_tap_says_what_is_there(model: Any, tap: str, message: str) -> None:
    own = model()
    with pytest.raises(InputError, match=message) as caught:
        wrapped(own, features=[tap], strides=[8])
    assert "\n" not in str(caught.value) and hooks_of(own) == 0


@pytest.mark.parametrize(
    ("features", "strides", "message"),
    [
        (
            ["stem"],
            [16],
            r"stride 16 does not fit: an input of 64×64 gives a map of 8×8, which is 8 and 8 pixels a cell",
        ),
        (["stem"], [4], r"stride 4 does not fit.*8 and 8 pixels"),
        (["stem"], [8, 16], r"one stride per feature, got 1 features and 2 strides"),
        ([], [], r"one stride per feature"),
        (["stem"], [0], r"1 or more"),
    ],
)
def test_a_wrong_stride_says_what_was_measured(features: list[str], strides: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrapped(features=features, strides=strides)


@pytest.mark.parametrize("tap", ["neck.down.1", "neck[p5]", 'neck["p5"]', "neck['p5']"])
def test_one_map_has_several_names(tap: str) -> None:
    assert wrapped(features=[tap], strides=[32]).levels[0].channels == 8


class Listed(Custom):
    """A model that returns its levels as a list inside a tuple."""

    def forward(self, images: Tensor) -> tuple[list[Tensor], int]:
        return list(self.neck(self.stem(images)).values()), 3


def test_the_whole_models_output_can_be_tapped() -> None:
    found = wrapped(Listed(), features=["[0][0]", "[0][1]", "[0][-1]"], strides=STRIDES)
    assert [level.name for level in found.levels] == ["[0][0]", "[0][1]", "[0][-1]"]


class Square(nn.Module):
    """Takes one size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (96, 96):
            raise ValueError("expected 96×96")
        return self.body(images)


def test_a_module_that_takes_one_size_is_measured_at_that_size() -> None:
    with pytest.raises(
        InputError, match=r"fails on an image 1×3×64×64 \(ValueError: expected 96×96\); give `image_size="
    ):
        wrapped(Square(), features=["body"], strides=[8])
    assert wrapped(Square(), features=["body"], strides=[8], image_size=96).levels[0].channels == 4


def test_labels_need_names() -> None:
    with pytest.raises(InputError, match=r"labels mean nothing without names"):
        wrapped(classes=(), losses=losses)


def test_half_precision_modules_can_be_measured() -> None:
    assert wrapped(Custom().to(torch.bfloat16)).levels[2].channels == 8
