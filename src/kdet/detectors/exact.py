"""What stays in float32 under autocast: what heads say, and the layers that place boxes; features keep their precision.

Where autocast is off nothing here changes anything.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdet.detectors.plain.exact import at_least_float32, sizes_alone


def exact(value: Any) -> Any:
    """Cast a module's floating outputs to float32 at least; lists, tuples and mappings keep their form."""
    if isinstance(value, Tensor):
        return at_least_float32(value) if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: exact(part) for key, part in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        parts = [exact(part) for part in cast(Iterable[Any], value)]
        return parts if isinstance(value, list) else tuple(parts)
    return value


@contextmanager
def saying_exactly(modules: Iterable[nn.Module]) -> Generator[None]:
    """Make the outputs of these modules float32 meanwhile; their arithmetic stays as autocast has it."""

    def saying(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: exact(run(*given, **named))

    with _changed(modules, saying):
        yield


@contextmanager
def computing_exactly(modules: Iterable[nn.Module]) -> Generator[None]:
    """Let these modules compute in float32 meanwhile, as if autocast were off, from inputs brought to float32."""

    def computing(run: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*given: Any, **named: Any) -> Any:
            device = next(value.device.type for value in (*given, *named.values()) if isinstance(value, Tensor))
            with torch.autocast(device, enabled=False):
                return run(*exact(given), **exact(named))

        return computed

    with _changed(modules, computing):
        yield


@contextmanager
def laying_exactly(generator: nn.Module) -> Generator[None]:
    """Let a generator of anchors read the sizes of maps alone meanwhile: it would lay anchors in their precision."""

    def laying(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda images, maps: run(images, sizes_alone(maps))

    with _changed([generator], laying):
        yield


@contextmanager
def _changed(
    modules: Iterable[nn.Module], change: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Generator[None]:
    """Each module's `forward` is replaced on the instance, the class's stays behind it; once where it is shared."""
    changed = list({id(module): module for module in modules}.values())
    before = [vars(module).get("forward") for module in changed]
    for module in changed:
        module.forward = change(module.forward)
    try:
        yield
    finally:
        for module, own in zip(changed, before, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own
