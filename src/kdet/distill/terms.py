"""One term of a distillation loss, described."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from kdet.distill.schedule import Schedule
from kdet.distill.views import View

AdapterMode = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A published loss with what it reads and how much it counts."""

    name: str
    loss: Callable[..., Tensor]
    """Takes what `view` returns as keyword arguments; gives a scalar."""
    view: View
    weight: float
    adapter: AdapterMode = "never"
    """1×1 convolutions on the student's features: `auto` = where channels, family or backbone differ."""
    schedule: Schedule = field(default_factory=Schedule)
    placebo: bool = False
    """The user knows that this term does nothing; the one way past the proof that distillation acts."""
