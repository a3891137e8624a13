"""The generator as a sum over neighbours, cell by cell, under a mask that is given."""

import torch
from torch import Tensor

from kdet.losses import MGDLoss
from losses.contract import Case, Inputs, Maps, permute_images, rand

Image = list[list[list[float]]]

CHANNELS = 3
SIZES = [(4, 5), (2, 3)]


def trained_modules() -> dict[torch.dtype, MGDLoss]:
    """One with weights of float64 and its copy in float32."""
    generator = torch.Generator().manual_seed(7)
    modules = {dtype: MGDLoss([CHANNELS] * len(SIZES)).to(dtype) for dtype in (torch.float64, torch.float32)}
    with torch.no_grad():
        for parameter in modules[torch.float64].parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 0.5)
    modules[torch.float32].load_state_dict(modules[torch.float64].state_dict())
    return modules


MODULES = trained_modules()


def call(student: Maps, teacher: Maps, *, keep: Maps) -> Tensor:
    module = MODULES[torch.float64 if student[0].dtype == torch.float64 else torch.float32]
    return module(student, teacher, keep=keep)


def reference(student: Maps, teacher: Maps, *, keep: Maps) -> float:
    weights = {key: value.tolist() for key, value in MODULES[torch.float64].state_dict().items()}
    loss = 0.0
    for level, (s_level, t_level, k_level) in enumerate(zip(student, teacher, keep, strict=True)):
        first, second = (
            (weights[f"generators.{level}.{layer}.weight"], weights[f"generators.{level}.{layer}.bias"])
            for layer in (0, 2)
        )
        for s, t, k in zip(s_level.tolist(), t_level.tolist(), k_level.tolist(), strict=True):
            seen = [[[x * m for x, m in zip(*rows, strict=True)] for rows in zip(c, k[0], strict=True)] for c in s]
            hidden = [[[max(x, 0.0) for x in row] for row in channel] for channel in convolved(seen, *first)]
            made = convolved(hidden, *second)
            gaps = [x - y for x, y in zip(flat(t), flat(made), strict=True)]
            loss += sum(gap**2 for gap in gaps) / len(s_level)
    return loss


def flat(image: Image) -> list[float]:
    return [x for channel in image for row in channel for x in row]


def convolved(image: Image, weight: list[Image], bias: list[float]) -> Image:
    """3×3, with zeros outside the image."""
    height, width = len(image[0]), len(image[0][0])

    def cell(kernel: Image, row: int, column: int) -> float:
        total = 0.0
        for channel, taps in zip(image, kernel, strict=True):
            for i in range(max(row - 1, 0), min(row + 2, height)):
                for j in range(max(column - 1, 0), min(column + 2, width)):
                    total += channel[i][j] * taps[i - row + 1][j - column + 1]
        return total

    return [
        [[cell(kernel, row, column) + shift for column in range(width)] for row in range(height)]
        for kernel, shift in zip(weight, bias, strict=True)
    ]


def masked_levels(generator: torch.Generator, dtype: torch.dtype, images: int = 2) -> Inputs:
    def features() -> list[Maps]:
        return [[rand(generator, dtype, images, CHANNELS, *size) for size in SIZES]]

    keep = [(rand(generator, torch.float32, images, 1, *size) > 0.5).float() for size in SIZES]
    return Inputs(features(), features(), keywords={"keep": keep})


def no_images() -> Inputs:
    return masked_levels(torch.Generator(), torch.float32, images=0)


CASES = [
    Case(
        loss="mgd",
        make=masked_levels,
        reference=reference,
        call=call,
        empty=no_images,
        permute=permute_images,
        zero_when_equal=False,
    )
]
