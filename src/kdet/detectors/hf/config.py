"""A recipe's `config:` of a detector of transformers, checked key by key."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from kdet.detectors.hf.families import FAMILIES
from kdet.errors import InputError

_FROM_THE_DATA = ("num_labels", "id2label", "label2id")


def checked(library: Any, given: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Build transformers' config from a recipe's, every key of it known; transformers itself takes any.

    Args:
        library: transformers.
        given: `model_type` and keys.
        names: the classes.

    Raises:
        InputError: what is wrong, with its place.
    """
    kind, keys = given.get("model_type"), {key: value for key, value in given.items() if key != "model_type"}
    known_type("config.model_type", kind)
    if told := [key for key in _FROM_THE_DATA if key in keys]:
        raise InputError(f"config.{told[0]}: the classes come from the data; leave it out")
    _refuse_unknown(library, keys, str(kind), "config")
    backbone = keys.get("backbone_config")
    if isinstance(backbone, dict):
        if backbone.get("model_type") not in library.CONFIG_MAPPING:
            raise InputError(
                f"config.backbone_config.model_type: expected a model type of transformers, such as resnet or "
                f"rt_detr_resnet, got {backbone.get('model_type')!r}"
            )
        inner = {key: value for key, value in backbone.items() if key != "model_type"}
        _refuse_unknown(library, inner, backbone["model_type"], "config.backbone_config")
    try:
        return library.CONFIG_MAPPING[str(kind)].from_dict({**keys, **labelled(names)})
    except Exception as error:  # of kinds of its own
        raise InputError(f"config: {one_line(error)}") from None


def known_type(where: str, kind: Any) -> None:
    """Refuse a model type that is not in FAMILIES; `where` begins the line.

    Raises:
        InputError: it is not, with the near ones.
    """
    if kind not in FAMILIES:
        near = get_close_matches(str(kind), FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FAMILIES)}"
        raise InputError(f"{where}: {kind!r} is no detector that kdet can read; {hint}")


def labelled(names: Sequence[str]) -> dict[str, Any]:
    """Return what a config holds of the class list."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: label for label, name in enumerate(names)}}


def one_line(error: Exception) -> str:
    """Return the beginning of what a library says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__


def _refuse_unknown(library: Any, keys: Mapping[str, Any], kind: str, where: str) -> None:
    theirs = library.CONFIG_MAPPING[kind]
    known = {*theirs().to_dict(), *theirs.attribute_map}
    for key in keys:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise InputError(
                f"{where}: {kind} has no key {key!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"its keys are those of {theirs.__name__}")
            )
