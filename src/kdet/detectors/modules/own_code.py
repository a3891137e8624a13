"""Detectors that the user's own function builds: the one door through which kdet runs code that is not its own."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from kdet.errors import InputError
from kdet.types import Detector

ALLOWED = "KDET_ALLOW_CODE"
"""Environment variable that is 1 where the user said `--allow-code`; worker processes inherit it."""


def call_factory(factory: str, classes: Sequence[str], options: Mapping[str, Any]) -> Detector | nn.Module:
    """Return what `function(classes=[…], **options)` of a recipe's `factory: module:function` returns.

    Args:
        factory: the module is looked for in the working directory first, then where Python looks.
        classes: names of the objects, without background.
        options: the recipe's own.

    Raises:
        InputError: code was not allowed, no such function, it fails, or it returns something else.
    """
    if os.environ.get(ALLOWED) != "1":
        raise InputError(
            f"factory: {factory} runs code of yours; if you trust it, add --allow-code (or set {ALLOWED}=1)"
        )
    function = _found(factory)
    try:
        made = function(classes=list(classes), **options)
    except InputError:
        raise
    except Exception as error:  # anything may go wrong in there, and it is the user's to mend
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"factory: {factory}(classes={list(classes)}, …) failed: {reason}{_place(error)}") from error
    if isinstance(made, nn.Module) or (hasattr(made, "observe") and hasattr(made, "native_state")):
        return cast("Detector | nn.Module", made)
    raise InputError(f"factory: {factory} returned a {type(made).__name__}; expected what kdet.wrap takes or returns")


def _found(factory: str) -> Callable[..., object]:
    module_name, colon, name = factory.partition(":")
    if not (module_name and colon and name):
        raise InputError(f"factory: {factory!r}: expected module:function, such as my_models:build")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:  # as above
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"factory: {factory}: {module_name} cannot be imported from {here} ({reason})") from error
    if not callable(function):
        raise InputError(f"factory: {factory}: {module_name} has no function {name!r}")
    return function


def _place(error: BaseException) -> str:
    """The line of the user's function that went wrong."""
    inside = error.__traceback__ and error.__traceback__.tb_next
    return "" if inside is None else f" ({inside.tb_frame.f_code.co_filename}:{inside.tb_lineno})"
