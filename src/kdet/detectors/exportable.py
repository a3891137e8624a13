"""What a detector must offer to be written down as a file for a device."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from kdet.ops.selection import Candidates, Selection


@runtime_checkable
class Exportable(Protocol):
    """A detector whose path from pixels to detections can be written down as a graph of fixed shapes."""

    model: nn.Module
    pixels: tuple[Sequence[float], Sequence[float]]
    """Mean and standard deviation of the three colours, in 0…1."""
    fill: Sequence[float]
    """The colour beyond an image, in 0…1."""
    selection: Selection

    def candidates(self, images: Tensor) -> Candidates:
        """Scores and boxes of normalised images N×3×H×W, without branches on values or loops over images."""
        ...
