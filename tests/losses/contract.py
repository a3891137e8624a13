"""The form in which a loss states how its inputs are made and what it promises.

`cases/NAME.py` holds the cases of `LOSSES["NAME"]`; `test_loss_contract.py` holds every one of them to its word.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from kdet.losses import LOSSES

Maps = list[Tensor]


@dataclass(frozen=True)
class Inputs:
    """Student and teacher tensors as lists of groups, each group an argument of the loss, and what else it takes."""

    student: list[Maps]
    teacher: list[Maps]
    extra: tuple[Any, ...] = ()
    as_list: bool = True
    """Whether a group is passed as a list of levels or as its only tensor."""
    keywords: dict[str, Maps | Tensor] = field(default_factory=dict)
    """Weights, masks and the like: by name, image by image, of no model and with no gradient."""

    def arguments(self) -> list[Any]:
        students, teachers = ([g if self.as_list else g[0] for g in side] for side in (self.student, self.teacher))
        pairs = [group for both in zip_longest(students, teachers) for group in both if group is not None]
        return pairs + list(self.extra)

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
        """The teacher's groups as the student's; a group that only the teacher has stays."""
        both = len(self.student)
        copies = [[t.clone() for t in group] for group in self.student]
        return replace(self, teacher=copies + self.teacher[both:])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A loss with one choice of options."""

    loss: str
    make: Callable[[torch.Generator, torch.dtype], Inputs]
    reference: Callable[..., float]
    """The formula in plain loops; takes what the loss takes."""
    empty: Callable[[], Inputs]
    """Inputs in which nothing is selected."""
    permute: Callable[[Inputs, Tensor], Inputs]
    """The images (or candidates) in another order."""
    options: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Tensor] | None = None
    """Where the loss is a module: calls one with fixed weights, in the dtype of its inputs."""
    has_roots: bool = False
    """Whether square roots with an epsilon stand in the formula."""
    zero_when_equal: bool = True
    """Whether the method promises 0 for equal models."""
    detached: tuple[int, ...] = ()
    """Groups of the student from which a weight without a gradient is made, so that theirs is not the derivative."""
    own_axes: tuple[int, ...] = ()
    """Axes in which student and teacher may differ."""

    def __call__(self, inputs: Inputs) -> Tensor:
        return (self.call or LOSSES[self.loss])(*inputs.arguments(), **inputs.keywords, **self.options)

    def expected(self, inputs: Inputs) -> float:
        return self.reference(*inputs.arguments(), **inputs.keywords, **self.options)

    def __str__(self) -> str:
        return "-".join([self.loss, *(f"{key}={value}" for key, value in self.options.items())])


def every_case() -> list[Case]:
    """Those of all losses, from the file of the same name."""
    return [case for name in LOSSES for case in import_module(f"losses.cases.{name}").CASES]


def rand(generator: torch.Generator, dtype: torch.dtype, *shape: int, scale: float = 1.0) -> Tensor:
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def feature_levels(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """Two levels, the second too small to be mirrored; nothing symmetric in the sizes."""
    shapes = [(2, 2, 6, 7), (2, 2, 2, 3)]
    return Inputs(*([[rand(generator, dtype, *shape) for shape in shapes]] for _ in range(2)))


def levels_of_a_half_dead_teacher(generator: torch.Generator, dtype: torch.dtype) -> Inputs:
    """One channel of each level is constant in one of the teacher's images, or nearly; the other image has it alive."""
    inputs = feature_levels(generator, dtype)
    first, second = inputs.teacher[0]
    first[0, 1], second[1, 0] = 0.5, 0.5 + 1e-3 * second[1, 0]
    return inputs


def permute_images(inputs: Inputs, order: Tensor) -> Inputs:
    def permuted(tensor: Tensor) -> Tensor:
        return tensor[order]

    keywords = {
        k: permuted(v) if isinstance(v, Tensor) else [permuted(t) for t in v] for k, v in inputs.keywords.items()
    }
    return replace(inputs.map(permuted), keywords=keywords)


def no_images(groups: int) -> Callable[[], Inputs]:
    def make() -> Inputs:
        return Inputs(*([[torch.zeros(0, 3, 4, 4)] for _ in range(groups)] for _ in range(2)))

    return make
