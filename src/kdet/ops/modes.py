"""Whether modules train or evaluate: for a while, or where they are frozen."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Enter evaluation mode; afterwards each module has its own mode of before, frozen normalisation included."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def frozen_norms(block: nn.Module, beside_frozen: bool = False) -> Iterator[nn.Module]:
    """Norms inside a module that would go on gathering statistics although they and the layer beside them are frozen.

    torch lets such statistics move, for `requires_grad=False` says nothing of them; then what was frozen changes with
    every batch. A norm is taken where its own scale and shift are frozen (if it has any) and so is the layer before it
    in its block, or else the layer behind it. Frozen norms beside a layer that is trained go on, as torch has it.

    Args:
        block: the module.
        beside_frozen: whether what stands beside the module itself is frozen.
    """
    children = list(block.children())
    for place, child in enumerate(children):
        nearest_first = [*reversed(children[:place]), *children[place + 1 :]]
        beside = next((layer for layer in nearest_first if not _is_norm(layer) and list(layer.parameters())), None)
        frozen = beside_frozen if beside is None else not _is_trained(beside)
        if not _is_norm(child):
            yield from frozen_norms(child, frozen)
        elif frozen and not _is_trained(child):
            yield child


def _is_norm(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
