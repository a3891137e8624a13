"""torchvision's detectors as modules: from plain arguments, or with the library's own weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import WeightsEnum

from kdet.detectors.backbones.timm_backbones import timm_weights
from kdet.detectors.plain import NORMS, TIMM, build_any, build_model
from kdet.detectors.weights import StoredWeights, download, is_file, library_weights, load, named_as, read_weights
from kdet.errors import InputError

Notes = Callable[[str], None]
PRETRAINED = "pretrained"
"""In the place of a file: timm's own weights."""


def backbone_defaults(
    detector: str,
    weights: str | None,
    backbone_weights: str | None,
    norm: str | None = None,
    trainable_layers: int | None = None,
) -> tuple[str, int]:
    """Return the norm and number of trained stages of a backbone, settled where they are None.

    From random weights batch norm and all stages; from pretrained ones what torchvision's own builders do: frozen norms
    and 3 of 5 stages, in its `_v2` detectors batch norm, and SSDs as if they were random. A file of a whole detector
    keeps the norm that it was made with, and one that kdet wrote its stages too.

    Args:
        detector: a name of BARE.
        weights: of the whole detector: torchvision's by name, or a file.
        backbone_weights: of the backbone alone.
        norm: as given.
        trainable_layers: as given.

    Raises:
        InputError: no such weights.
    """
    found = ("batch", 5)
    if detector != "ssdlite" and weights is None and backbone_weights is not None:
        found = ("frozen", 3)
    elif detector != "ssdlite" and weights is not None:
        found = (
            _as_made(read_weights(Path(weights))) if is_file(weights) else _library_defaults(library_weights(weights))
        )
    return norm or found[0], found[1] if trainable_layers is None else trainable_layers


def _library_defaults(weights: WeightsEnum) -> tuple[str, int]:
    return ("batch" if "_V2_" in type(weights).__name__.upper() else "frozen"), 3


def _as_made(stored: StoredWeights) -> tuple[str, int]:
    """What a weights file says of its backbone, else what its tensors tell: only batch norm counts batches."""
    build = stored.build or {}
    if "norm" in build:
        return build["norm"], build["trainable_layers"]
    own = {name.rpartition(".")[2] for name in stored.state if name.startswith("backbone.")}
    if "running_mean" not in own:
        return "group", 3
    return ("batch" if "num_batches_tracked" in own else "frozen"), 3


def plain_model(arguments: dict[str, Any], backbone_weights: str | None) -> nn.Module:
    """Build a detector of `kdet.detectors.plain`.

    Args:
        arguments: of `build_model`.
        backbone_weights: a file, torchvision's weights by name, or PRETRAINED; None = random.

    Raises:
        InputError: arguments that do not go together, or weights of another backbone.
    """
    state = None
    if backbone_weights is not None:
        given = backbone_weights
        if given == PRETRAINED and arguments["backbone"].startswith(TIMM):
            state = timm_weights(arguments["backbone"].removeprefix(TIMM))
        else:
            state = read_weights(Path(given)).state if is_file(given) else download(library_weights(given))
    if arguments["norm"] not in NORMS:
        raise InputError(f"unknown norm {arguments['norm']!r}; known: {', '.join(NORMS)}")
    try:
        return build_model(**arguments, body_state=state)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{arguments['detector']} with {arguments['backbone']} cannot be built: {error}; change what is named, "
            "or leave "
            "it out"
        ) from None


def library_model(
    weights: WeightsEnum,
    arguments: dict[str, Any],
    names: tuple[str, ...],
    notes: Notes,
    expected: type[nn.Module],
) -> nn.Module:
    """Build torchvision's pretrained detector; its class layer is made anew where the classes are others.

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
        raise InputError(
            f"weights {weights}: a {type(model).__name__}, but the recipe says {arguments['detector']}; name the "
            "detector "
            "that they belong to"
        )
    categories = tuple(weights.meta["categories"])
    stored = StoredWeights(origin=str(weights), state=download(weights), class_names=categories)
    load_and_tell(model, stored, names, notes)
    return model


def load_and_tell(model: nn.Module, stored: StoredWeights, names: tuple[str, ...], notes: Notes) -> None:
    """Load, and say what was taken off to find the weights, and where the class layer starts fresh."""
    stored = named_as(stored, model.state_dict())
    for line in stored.said:
        notes(f"{stored.origin}: {line}")
    fresh = load(model, stored, names)
    if fresh:
        notes(f"{stored.origin}: other classes, so the class layer starts fresh ({len(fresh)} tensors)")
