"""What a step's loss is made of."""

from collections.abc import ItemsView, KeysView, ValuesView
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class GradientRatio:
    """A weighted term's gradient at the student's neck outputs, against that of the task losses."""

    ratio: float
    """Norm of the term's / norm of the task's."""
    cosine: float
    """Between the two; negative where distillation pulls against the task."""


@dataclass(frozen=True, kw_only=True)
class LossReport:
    """The loss of one step; read like a dict it is its parts, as torchvision's detectors return their losses."""

    total: Tensor
    """Always the sum of `parts`."""
    parts: dict[str, Tensor]
    """Weighted scalars by name: the task's own (`task/…`) and one per term."""
    gradients: dict[str, GradientRatio] = field(default_factory=dict[str, GradientRatio])
    """Gradients by term, in a step that was measured."""

    # No Mapping by inheritance: engines rebuild every Mapping that a module returns, and could not rebuild this one.
    def __getitem__(self, name: str) -> Tensor:
        """One part."""
        return self.parts[name]

    def keys(self) -> KeysView[str]:
        """Names of the parts."""
        return self.parts.keys()

    def values(self) -> ValuesView[Tensor]:
        """The parts."""
        return self.parts.values()

    def items(self) -> ItemsView[str, Tensor]:
        """Names and parts."""
        return self.parts.items()
