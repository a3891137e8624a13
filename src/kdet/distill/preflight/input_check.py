"""Which pixels a model is given: what enters its first layer, against the batch.

Each model normalises for itself, with a mean and a scale of its own and perhaps another order of the colours. All of
these are affine in the three colours of a pixel, so they are set aside by a fit, and what cannot be explained by the
batch's own pixels was flipped, moved, resized, augmented, or belongs to other images.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdet.types import Batch

SAME = 0.999
"""Share of the variance that the batch explains; exact but for rounding, where bfloat16 loses 1e-4."""
_SAME_SCENE = 0.9
"""The same between blocks of two sizes of one image: edges differ a little, and a flip explains far less."""
_BLOCK = 8
_MOST_PIXELS = 65536
_NO_VARIANCE = 1e-12
_COLOURS = 3


@dataclass
class InputCapture:
    """What was seen of one forward pass."""

    ran: bool = False
    """Whether any layer of the model did something."""
    pixels: Tensor | None = None
    """What the first layer that reads an image was given, N×3×H×W; None if no layer reads one."""


@contextmanager
def capture_input(model: nn.Module) -> Generator[InputCapture]:
    """Watch the layers of a model while the context is open."""
    seen = InputCapture()
    layers = [module for module in model.modules() if next(module.children(), None) is None]
    hooks = [layer.register_forward_pre_hook(_looker(seen), with_kwargs=True) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def r_squared(pixels: Tensor, batch: Batch) -> float:
    """Return the share of the variance of a first layer's input that is affine in the batch's pixels: 1 = the same."""
    if len(pixels) != len(batch.images):
        return 0.0
    own, theirs = _inside(pixels, batch), _inside(batch.images, batch)
    if own.shape != theirs.shape:
        return 0.0
    total = float((own - own.mean(0)).square().sum())
    if total <= _NO_VARIANCE * len(own):
        return float((theirs - theirs.mean(0)).square().sum() <= _NO_VARIANCE * len(theirs))
    colours = torch.cat([theirs, torch.ones(len(theirs), 1, dtype=theirs.dtype)], dim=1)
    fitted = colours @ torch.linalg.lstsq(colours, own, driver="gelsd").solution
    return 1 - float((own - fitted).square().sum()) / total


def same_scene(images: Tensor, batch: Batch) -> bool:
    """Whether images of another size, N×3×H×W, show what the batch does: compared in blocks of 8 pixels."""
    height, width = (side // _BLOCK for side in batch.images.shape[-2:])
    ours, theirs = (F.interpolate(pixels, (height, width), mode="area") for pixels in (batch.images, images))
    sizes = [(max(1, h // _BLOCK), max(1, w // _BLOCK)) for h, w in batch.sizes_hw]
    return r_squared(theirs, replace(batch, images=ours, sizes_hw=sizes)) >= _SAME_SCENE


def _inside(images: Tensor, batch: Batch) -> Tensor:
    """Pixels that are no padding, P×3 float64 on the CPU; every so many of them where there are many."""
    rows = [image[:, :h, :w].flatten(1) for image, (h, w) in zip(images, batch.sizes_hw, strict=True)]
    pixels = torch.cat(rows, dim=1)
    step = max(1, pixels.shape[1] // _MOST_PIXELS)
    return pixels[:, ::step].T.detach().cpu().double()


def _looker(seen: InputCapture) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def look(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.ran = True
        if seen.pixels is None:
            seen.pixels = next((t.detach() for t in (*given, *named.values()) if _is_image(t)), None)

    return look


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[1] == _COLOURS and value.is_floating_point()
