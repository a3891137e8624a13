"""What every detector can do, and what some can; the legend is the package's."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from kdet.types.batch import Batch, Canvas, Detections, ImageSize, Target
from kdet.types.observation import HeadFeatures, Level, Need, Observation


class Detector(Protocol):
    """One detector of any family, as the rest of the house sees it."""

    family: str
    """Name in a recipe's `detector:`."""
    architecture: tuple[str, str]
    """The kinds of detector and backbone, whatever their size and however it was made."""
    model: nn.Module
    """The library's own module, untouched; its state_dict is the student file."""
    class_names: tuple[str, ...]
    """One name per column of the class layer; background and unused columns keep their place. Empty: it knows none."""
    levels: tuple[Level, ...]
    provides: frozenset[Need]
    """What `observe` can reveal."""
    predicts: bool
    """Whether `predict` has an answer; a model that gives features alone has none, and no AP."""
    image_size: ImageSize
    """Long side, or short side and its limit, to which images are resized before the model sees them."""
    canvas: Canvas
    """How they are, in training and afterwards; as its own library has it, where nobody said otherwise."""
    build_arguments: dict[str, Any] | None
    """What rebuilds the architecture, written into the weights file; None where a module that the user brought does
    not say."""

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize to the model's own input size and pad a list of 3×H×W images (0…1) with their targets."""
        ...

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Run one forward pass that computes what `needs` names and nothing beyond it."""
        ...

    def predict(self, batch: Batch) -> list[Detections]:
        """Detect objects, in pixels of the network input, after the model's own post-processing."""
        ...

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Run this detector's head on given features: class logits N×A×K, or P×K on given proposals."""
        ...

    def native_state(self) -> dict[str, Tensor]:
        """Return the weights under the library's own key names."""
        ...


@runtime_checkable
class Phased(Protocol):
    """A detector whose own task losses may change over a run, as its library's trainer changes them."""

    def at(self, progress: float) -> None:
        """The passes that follow are at this fraction of the run, 0…1; without a call the losses stay as built."""
        ...


@runtime_checkable
class DividedHead(Protocol):
    """A detector whose head can be entered half-way; it lists `Need.HEAD_FEATURES` in its `gives`."""

    def finish_head(self, hidden: HeadFeatures, after: int, own: Observation) -> Observation:
        """What the rest of this head makes of maps that stand after its `after`-th hidden layer.

        Args:
            hidden: maps with this head's own channels; they are not changed.
            after: how many hidden layers they have behind them, from 1 on.
            own: this detector's observation of the same images, with its features.

        Returns:
            `own` with these class logits, quality logits and boxes.
        """
        ...


@runtime_checkable
class TakesQueries(Protocol):
    """A detector whose decoder can be asked another's queries; it lists `Need.DECODER` in its `gives`."""

    query_form: str
    """What a query of it is, in words; two detectors of one form understand each other's."""
