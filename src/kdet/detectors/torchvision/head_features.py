"""What stands after the hidden layers of a dense head, and the rest of a head on such maps."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from kdet.types import HeadFeatures


@contextmanager
def revealed(head: Any, wanted: bool) -> Generator[list[HeadFeatures]]:
    """Collect what the activations of both branches are given; the list is filled when the context closes."""
    found = list[HeadFeatures]()
    branches = (head.classification_head.conv, head.regression_head.conv) if wanted else ()
    seen = [[list[Tensor]() for _ in _activations(branch)] for branch in branches]
    hooks = [
        activation.register_forward_pre_hook(_keeper(kept))
        for branch, lists in zip(branches, seen, strict=True)
        for activation, kept in zip(_activations(branch), lists, strict=True)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    if wanted:
        found.extend(HeadFeatures(classes=c, boxes=b) for c, b in zip(*seen, strict=True))


def _activations(branch: nn.Module) -> list[nn.ReLU]:
    """One per hidden layer."""
    return [module for module in branch.modules() if isinstance(module, nn.ReLU)]


def _keeper(kept: list[Tensor]) -> Callable[[nn.ReLU, tuple[Tensor]], None]:
    def keep(activation: nn.ReLU, given: tuple[Tensor]) -> None:
        kept.append(given[0].clone() if activation.inplace else given[0])

    return keep


def finish(branch: nn.Module, maps: list[Tensor], after: int) -> list[Tensor]:
    """Return the maps from before the `after`-th activation of a branch to its end."""
    layers = [module for module in branch.modules() if next(module.children(), None) is None]
    rest = layers[layers.index(_activations(branch)[after - 1]) + 1 :]
    maps = [m.relu() for m in maps]  # the branch's own activation may work in place, and these are the caller's
    for layer in rest:
        maps = [layer(m) for m in maps]
    return maps
