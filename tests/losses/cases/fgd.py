"""Focal, attention and relation part of FGD, image by image and number by number."""

import math
from typing import Any

import torch
from torch import Tensor

from kdet.losses import FGDLoss
from losses.contract import Case, Inputs, Maps, permute_images, rand
from losses.reference import softmax

Cells = list[list[float]]
"""One image as C channels of H·W numbers."""

CHANNELS = 6
SIZES = [(4, 5), (2, 3)]


def reference_of(module: FGDLoss):
    """The formula with the weights of a module."""
    weights = {key: value.tolist() for key, value in module.state_dict().items()}

    def reference(student: Maps, teacher: Maps, *, foreground: Maps, background: Maps, alpha=1e-3, beta=5e-4,
                  gamma=5e-4, lambda_=5e-6, temperature=0.5) -> float:  # fmt: skip
        loss = 0.0
        for level, maps in enumerate(zip(student, teacher, foreground, background, strict=True)):
            images = [m.double().flatten(2).tolist() for m in maps]
            for s, t, (f,), (b,) in zip(*images, strict=True):
                added_s = context(weights, f"student_contexts.{level}", s)
                added_t = context(weights, f"teacher_contexts.{level}", t)
                part = focal(s, t, [alpha * x + beta * y for x, y in zip(f, b, strict=True)], temperature)
                part += gamma * attention_gap(s, t, temperature)
                part += lambda_ * relation(s, t, added_s, added_t)
                loss += part / len(student[0])
        return loss

    return reference


def attention(cells: Cells, temperature: float) -> tuple[list[float], list[float]]:
    count, channels = len(cells[0]), len(cells)
    spatial = softmax([sum(abs(channel[i]) for channel in cells) / channels / temperature for i in range(count)])
    by_channel = softmax([sum(abs(x) for x in channel) / count / temperature for channel in cells])
    return [count * a for a in spatial], [channels * a for a in by_channel]


def focal(s: Cells, t: Cells, weight: list[float], temperature: float) -> float:
    spatial, by_channel = attention(t, temperature)
    total = 0.0
    for c, (s_channel, t_channel) in enumerate(zip(s, t, strict=True)):
        for i, (x, y) in enumerate(zip(s_channel, t_channel, strict=True)):
            total += weight[i] * spatial[i] * by_channel[c] * (y - x) ** 2
    return total


def attention_gap(s: Cells, t: Cells, temperature: float) -> float:
    pairs = zip(attention(s, temperature), attention(t, temperature), strict=True)
    return sum(abs(y - x) for both in pairs for x, y in zip(*both, strict=True))


def relation(s: Cells, t: Cells, added_s: list[float], added_t: list[float]) -> float:
    total = 0.0
    for s_channel, t_channel, a_s, a_t in zip(s, t, added_s, added_t, strict=True):
        total += sum(((y + a_t) - (x + a_s)) ** 2 for x, y in zip(s_channel, t_channel, strict=True))
    return total


def context(weights: dict[str, Any], block: str, cells: Cells) -> list[float]:
    """What a context block adds to each channel."""
    key = [tap[0][0] for tap in weights[f"{block}.key.weight"][0]]
    shares = softmax([dot(key, column) for column in zip(*cells, strict=True)])
    pooled = [dot(channel, shares) for channel in cells]
    hidden = linear(weights, f"{block}.squeeze.0", pooled)
    scale, shift = weights[f"{block}.squeeze.1.weight"], weights[f"{block}.squeeze.1.bias"]
    hidden = [max(x * a[0][0] + b[0][0], 0.0) for x, a, b in zip(standardised(hidden), scale, shift, strict=True)]
    return linear(weights, f"{block}.expand", hidden)


def linear(weights: dict[str, Any], layer: str, values: list[float]) -> list[float]:
    """A 1×1 convolution of a single cell."""
    rows, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    return [dot([tap[0][0] for tap in row], values) + b for row, b in zip(rows, bias, strict=True)]


def standardised(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((x - mean) ** 2 for x in values) / len(values)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in values]


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def features_and_regions(generator: torch.Generator, dtype: torch.dtype, images: int = 2) -> Inputs:
    """Features of both signs; maps that overlap, which no real ones do."""

    def features() -> list[Maps]:
        return [[rand(generator, dtype, images, CHANNELS, *size, scale=4) - 2 for size in SIZES]]

    def maps() -> Maps:
        return [rand(generator, torch.float64, images, 1, *size) for size in SIZES]

    return Inputs(features(), features(), keywords={"foreground": maps(), "background": maps()})


def no_images() -> Inputs:
    return features_and_regions(torch.Generator(), torch.float32, images=0)


def case(options: dict[str, Any], trained: bool) -> Case:
    generator = torch.Generator().manual_seed(11)
    modules = {d: FGDLoss([CHANNELS] * len(SIZES), **options).to(d) for d in (torch.float64, torch.float32)}
    with torch.no_grad():
        for parameter in modules[torch.float64].parameters() if trained else ():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 2 - 1)
    modules[torch.float32].load_state_dict(modules[torch.float64].state_dict())

    def call(student: Maps, teacher: Maps, *, foreground: Maps, background: Maps, **options: Any) -> Tensor:
        del options  # the module has them
        module = modules[torch.float64 if student[0].dtype == torch.float64 else torch.float32]
        return module(student, teacher, foreground=foreground, background=background)

    return Case(
        loss="fgd",
        make=features_and_regions,
        reference=reference_of(modules[torch.float64]),
        call=call,
        empty=no_images,
        permute=permute_images,
        options=options,
        zero_when_equal=not trained,
    )


CASES = [
    case({}, trained=False),
    case({"lambda_": 0.1}, trained=True),
    case({"alpha": 0.3, "beta": 0.0, "gamma": 0.0, "lambda_": 0.0}, trained=True),
    case({"alpha": 0.0, "beta": 0.2, "gamma": 0.7, "lambda_": 0.01, "temperature": 0.8}, trained=True),
]
