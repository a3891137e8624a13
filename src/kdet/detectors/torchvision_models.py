"""torchvision's detectors as modules: from plain arguments, or with the library's own weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import WeightsEnum

from kdet.detectors.plain import NORMS, build_any, build_model
from kdet.detectors.weights import StoredWeights, download, is_file, library_weights, load, read_weights
from kdet.errors import InputError

Notes = Callable[[str], None]


def plain_model(arguments: dict[str, Any], backbone_weights: str | None) -> nn.Module:
    """A detector of `kdet.detectors.plain`.

    Args:
        arguments: of `build_model`.
        backbone_weights: a file or torchvision's weights by name; None = random.

    Raises:
        InputError: arguments that do not go together, or weights of another backbone.
    """
    state = None
    if backbone_weights is not None:
        given = backbone_weights
        state = read_weights(Path(given)).state if is_file(given) else download(library_weights(given))
    if arguments["norm"] not in NORMS:
        raise InputError(f"unknown norm {arguments['norm']!r}; known: {', '.join(NORMS)}")
    try:
        return build_model(**arguments, body_state=state)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{arguments['detector']} with {arguments['backbone']}: {error}") from None


def library_model(
    weights: WeightsEnum,
    arguments: dict[str, Any],
    names: tuple[str, ...],
    notes: Notes,
    expected: type[nn.Module],
) -> nn.Module:
    """torchvision's pretrained detector; its class layer is made anew where the classes are others.

    Args:
        weights: torchvision's own.
        arguments: of `build_any`, with `library`.
        names: classes by column.
        notes: receives what starts fresh.
        expected: the class that the recipe's detector has.

    Raises:
        InputError: weights of another detector, or out of reach.
    """
    model = build_any(arguments)
    if not isinstance(model, expected):
        raise InputError(f"weights {weights}: a {type(model).__name__}, but the recipe says {arguments['detector']}")
    categories = tuple(weights.meta["categories"])
    stored = StoredWeights(origin=str(weights), state=download(weights), class_names=categories)
    load_and_tell(model, stored, names, notes)
    return model


def load_and_tell(model: nn.Module, stored: StoredWeights, names: tuple[str, ...], notes: Notes) -> None:
    """Load, and say where the class layer starts fresh."""
    fresh = load(model, stored, names)
    if fresh:
        notes(f"{stored.origin}: other classes, so the class layer starts fresh ({len(fresh)} tensors)")
