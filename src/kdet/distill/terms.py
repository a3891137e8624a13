"""One term of a distillation loss, described."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from kdet.distill.views.base import View
from kdet.distill.weighting.schedule import Schedule
from kdet.types import Need

AdapterMode = Literal["auto", "always", "never", "identity-start"]
"""Where φ stands: auto = where channels, detector or backbone family differ; always and identity-start = everywhere.
How it starts: under auto by least squares on the run's first batches (`kdet.distill.fit_adapters`); under
identity-start as the identity where the channels agree; else, and under always, as any convolution does."""


Weight = float | Literal["auto"]
"""A number, or what `kdet.distill.weighting.balance` measures: `ratio` of the task's pull, for all auto terms."""
RATIO = 1.0
"""Ratio where a recipe names none; docs/adr/0010-ratio-1.md says why."""


@dataclass(frozen=True)
class Learned:
    """A loss with weights of its own: a module for these channels, one entry per paired level."""

    make: Callable[[Sequence[int]], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A published loss with what it reads and how much it counts.

    Examples:
        >>> from kdet import losses, methods
        >>> from kdet.distill import Term
        >>> from kdet.distill.views.base import Features
        >>> term = Term(name="hint", loss=losses.hint_loss, view=Features(), weight="auto", adapter="auto")
        >>> methods.hint() == [term]
        True
        >>> term.renamed("hint of t1").name
        'hint of t1'
    """

    name: str
    loss: Callable[..., Tensor] | Learned
    """Takes what `view` returns as keyword arguments; gives a scalar."""
    view: View
    weight: Weight
    ratio: float = RATIO
    """Gradient of all auto terms together at the student's neck as a multiple of the task's, for `weight: auto`."""
    adapter: AdapterMode = "never"
    """1×1 convolutions on the student's features."""
    strides: tuple[int, ...] | None = None
    """Strides of the levels that are compared, for terms that read features; None = those of `finest`."""
    finest: int | None = None
    """Number of the paired levels that are compared, the finest ones; None = all."""
    schedule: Schedule = field(default_factory=Schedule)
    placebo: bool = False
    """The user knows that this term does nothing; the one way past the proof that distillation acts."""

    def renamed(self, name: str) -> "Term":
        """The same under another name."""
        return replace(self, name=name)

    @property
    def reads_class_scores(self) -> bool:
        """Whether it reads class scores of the teacher: on its grid or queries, or on the student's sampled regions."""
        scores = {Need.CLASS_LOGITS, Need.QUERIES}
        return bool(scores & self.view.teacher_needs) or Need.PROPOSALS in self.view.student_needs
