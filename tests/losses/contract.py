"""One entry per loss: how to make its inputs, and what it promises. `test_loss_contract.py` holds every one to it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kdet.losses import LOSSES
from losses import reference

Maps = list[Tensor]


@dataclass(frozen=True)
class Inputs:
    """Student and teacher tensors as lists of groups, each group an argument of the loss, and what else it takes."""

    student: list[Maps]
    teacher: list[Maps]
    extra: tuple[Any, ...] = ()
    as_list: bool = True
    """Whether a group is passed as a list of levels or as its only tensor."""

    def arguments(self) -> list[Any]:
        pairs = [group for both in zip(self.student, self.teacher, strict=True) for group in both]
        return [group if self.as_list else group[0] for group in pairs] + list(self.extra)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Inputs":
        return replace(
            self,
            student=[[change(t) for t in group] for group in self.student],
            teacher=[[change(t) for t in group] for group in self.teacher],
        )

    def leaves(self) -> Maps:
        return [tensor for group in self.student for tensor in group]

    def requiring_grad(self) -> "Inputs":
        return replace(self, student=[[t.detach().clone().requires_grad_() for t in g] for g in self.student])

    def equal(self) -> "Inputs":
        return replace(self, teacher=[[t.clone() for t in group] for group in self.student])


@dataclass(frozen=True)
class Case:
    loss: str
    make: Callable[[torch.Generator, torch.dtype], Inputs]
    reference: Callable[..., float]
    options: dict[str, Any] = field(default_factory=dict)
    empty: Callable[[], Inputs] = lambda: Inputs([], [])
    permute: Callable[[Inputs, Tensor], Inputs] | None = None
    """How the loss' images (or candidates) are put in another order."""
    wrong: Callable[[Inputs], Inputs] | None = None
    has_roots: bool = False
    """Whether square roots with an epsilon stand in the formula."""

    def __call__(self, inputs: Inputs) -> Tensor:
        return LOSSES[self.loss](*inputs.arguments(), **self.options)

    def expected(self, inputs: Inputs) -> float:
        return self.reference(*inputs.arguments(), **self.options)

    def __str__(self) -> str:
        return "-".join([self.loss, *(f"{key}={value}" for key, value in self.options.items())])


def rand(generator: torch.Generator, dtype: torch.dtype, *shape: int, scale: float = 1.0) -> Tensor:
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def feature_levels(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Two levels, the second too small to be mirrored; nothing symmetric in the sizes."""
    shapes = [(2, 2, 6, 7), (2, 2, 2, 3)]
    return Inputs(*([[rand(generator, dtype, *shape) for shape in shapes]] for _ in range(2)))


def features_and_logits(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    sizes = [(6, 5), (3, 2)]

    def groups() -> list[Maps]:
        return [
            [rand(generator, dtype, 2, 4, *size) for size in sizes],
            [rand(generator, dtype, 2, 6, *size, scale=4) - 2 for size in sizes],
        ]

    return Inputs(groups(), groups())


def candidates(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    index = torch.tensor([4, 0, 0, 7, 4, 4, 0, 7, 2, 4])
    return Inputs(
        [[rand(generator, dtype, 10)]], [[rand(generator, dtype, 10, scale=3)]], extra=(index, 4), as_list=False
    )


def class_logits(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    return Inputs(
        [[rand(generator, dtype, 5, 4, scale=6) - 3]], [[rand(generator, dtype, 5, 4, scale=6) - 3]], as_list=False
    )


def permute_images(inputs: Inputs, order: Tensor) -> Inputs:
    return inputs.map(lambda t: t[order[order < t.shape[0]]])


def permute_candidates(inputs: Inputs, order: Tensor) -> Inputs:
    return replace(permute_images(inputs, order), extra=(inputs.extra[0][order], inputs.extra[1]))


def no_images(groups: int) -> Callable[[], Inputs]:
    def make() -> Inputs:
        return Inputs(*([[torch.zeros(0, 3, 4, 4)] for _ in range(groups)] for _ in range(2)))

    return make


STRUCTURAL_OPTIONS: list[dict[str, Any]] = [
    {},
    {"normalize": "sample"},
    {"normalize": None},
    {"window": 5, "sigma": 0.8},
    {"window": 3},
    {"alpha": 0.0},
    {"alpha": 0.0, "beta": 0.0},
    {"beta": 0.0, "gamma": 0.0},
    {"alpha": 2.0},
    {"gamma": 2.0, "normalize": "sample"},
    {"alpha": 0.5, "beta": 0.7, "gamma": 0.3},
]
PAIRED: list[dict[str, Any]] = [
    {},
    {"reduction": "mean"},
    {"prediction": "probability"},
    {"detach_weight": True},
]
SOFT: list[dict[str, Any]] = [
    {},
    {"activation": "softmax"},
    {"temperature": 2.5},
    {"activation": "softmax", "temperature": 3.0, "normaliser": 7.5},
]

CASES: list[Case] = [
    *(
        Case(
            "structural", feature_levels, reference.structural, options, no_images(1), permute_images,
            has_roots=options.get("beta", 1) != 1 or options.get("gamma", 1) != 1,
        )
        for options in STRUCTURAL_OPTIONS
    ),
    *(
        Case("lp", feature_levels, reference.lp, {"p": p, "normalize": normalize}, no_images(1), permute_images)
        for p in (1, 2)
        for normalize in ("channel", "sample", None)
    ),
    *(
        Case(
            "prediction_guided", features_and_logits, reference.prediction_guided, options, no_images(2),
            permute_images,
        )
        for options in PAIRED
    ),
    *(
        Case(
            "rank_mimicking", candidates, reference.rank_mimicking, options,
            lambda: Inputs([[torch.zeros(0)]], [[torch.zeros(0)]], (torch.zeros(0, dtype=torch.int64), 0), False),
            permute_candidates,
        )
        for options in ({}, {"temperature": 0.3})
    ),
    *(
        Case(
            "soft_labels", class_logits, reference.soft_labels, options,
            lambda: Inputs([[torch.zeros(0, 4)]], [[torch.zeros(0, 4)]], as_list=False), permute_images,
        )
        for options in SOFT
    ),
]  # fmt: skip
