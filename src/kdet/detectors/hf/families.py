"""Hugging Face's detectors that predict a set: what of each is known beyond its config.

Legend: N images, C channels, H W a level's size; L = H·W cells, of one level or of all levels one after the other.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kdet.detectors.hf.query_decoders import BY_BOXES, BY_CELLS, BY_EMBEDDINGS, CONDITIONAL, DEFORMABLE, TABLE, Asking
from kdet.types import Activation, Canvas, Need, SizeHW


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model type."""

    neck: str
    """The module whose outputs are the feature maps; nothing before it needs the decoder."""
    asking: Asking | None = None
    """How its decoder is asked the queries of another; None: it is not."""
    grid: str | None = None
    """Convolution that made the neck's map, where the neck's output is one flat N×L×C; None: maps, or sizes come
    along."""
    reads_mask: bool = True
    """It knows what is padding, and its boxes are fractions of the image; else of the padded image."""
    normalises: bool = True
    """ImageNet's mean and standard deviation; else it takes pixels in 0…1."""
    activation: Activation = "sigmoid"
    """softmax: one more column than classes, the last, for "no object"."""
    weighted_losses: bool = False
    """Its loss_dict holds the parts of its loss as they are added up; else before their weights."""
    square: bool = False
    """Anything but a square input is scrambled inside."""
    image_size: int | tuple[int, int] = (800, 1333)
    """Input size of its image processor."""
    canvas: Canvas = "pad"
    """Canvas of its image processor: pad, or stretch to a height and a width; LW-DETR's and RF-DETR's as in their own
    code."""

    @property
    def provides(self) -> frozenset[Need]:
        """What a model of this type reveals."""
        memory = {Need.MEMORY} if self.neck == "model.encoder" else set[Need]()
        asked = {Need.DECODER} if self.asking else set[Need]()
        return frozenset({Need.FEATURES, Need.QUERIES, Need.LOSSES} | memory | asked)


_DETR = Family(neck="model.encoder", grid="model.input_projection")
_RT_DETR = Family(
    neck="model.encoder",
    asking=BY_CELLS,
    reads_mask=False,  # it hands the mask to its backbone, which drops it
    normalises=False,  # RTDetrImageProcessor: do_normalize = False, do_rescale = True
    weighted_losses=True,
    image_size=640,
    canvas="stretch",  # RTDetrImageProcessor: size = {height: 640, width: 640}, do_pad = False
)

FAMILIES: dict[str, Family] = {
    "rt_detr": _RT_DETR,
    "rt_detr_v2": _RT_DETR,
    "d_fine": _RT_DETR,
    "deimv2": _RT_DETR,
    "deformable_detr": Family(neck="model.encoder", asking=DEFORMABLE),
    # RF-DETR's window_partition (transformers 5.24) takes width for height.
    "rf_detr": Family(neck="model.backbone.projector", square=True, image_size=560, canvas="stretch"),
    "lw_detr": Family(neck="model.backbone.projector", image_size=640, canvas="stretch"),
    "conditional_detr": replace(_DETR, asking=CONDITIONAL),
    "dab-detr": replace(_DETR, asking=BY_BOXES),
    "detr": replace(_DETR, asking=BY_EMBEDDINGS, activation="softmax"),
    "table-transformer": replace(_DETR, asking=TABLE, activation="softmax"),
}
"""Families by `model_type`. YOLOS is not here: its tokens are no feature maps."""


class NeckReached(Exception):
    """Ends a forward pass at the neck, where nothing behind it is wanted."""


@contextmanager
def neck_maps(
    model: nn.Module, family: Family, *, stop: bool, shown: tuple[float, float] = (1.0, 1.0)
) -> Generator[list[Tensor]]:
    """Yield the list that the next forward pass fills with the neck's maps, N×C×H×W each; hooks are gone afterwards.

    The maps are what the rest of the model reads, so that its losses have a gradient there: an output that is cut into
    maps, or to its top left part, is put together again for the model to go on with.

    Args:
        model: with the modules that `family` names.
        family: where to look.
        stop: raise NeckReached as soon as the maps are there.
        shown: share of their height and width that is wanted, from the top left.
    """
    maps: list[Tensor] = []
    sizes: list[SizeHW] = []

    def at_grid(_: nn.Module, given: Any, output: Tensor) -> None:
        """Hook: the size of one level, which flat outputs of the neck do not tell."""
        sizes.append((int(output.shape[2]), int(output.shape[3])))

    def at_neck(_: nn.Module, given: Any, named: Mapping[str, Any], output: Any) -> Any:
        """Hook: take the maps, and let the model go on with what was taken."""
        whole = _maps_in(output, named.get("spatial_shapes_list") or sizes)
        parts = [m[..., : math.ceil(shown[0] * m.shape[2]), : math.ceil(shown[1] * m.shape[3])] for m in whole]
        maps.extend(whole if shown == (1, 1) else parts)
        if stop:
            raise NeckReached
        if shown == (1, 1):
            return None
        rebuilt = [_put_into(m, part) for m, part in zip(whole, parts, strict=True)]
        return rebuilt if isinstance(output, list) else rebuilt[0]

    hooks = [model.get_submodule(family.neck).register_forward_hook(at_neck, with_kwargs=True)]
    if family.grid is not None:
        hooks.append(model.get_submodule(family.grid).register_forward_hook(at_grid))
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _maps_in(output: Any, sizes: Sequence[SizeHW]) -> list[Tensor]:
    """The maps of a neck's output; a flat one is replaced, in the output, by its maps put together."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, list):
        return output
    if "feature_maps" in output:
        return list(output["feature_maps"])
    last = output["last_hidden_state"]
    if not isinstance(last, Tensor):
        return list(last)
    parts = last.split([h * w for h, w in sizes], dim=1)
    maps = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
    output["last_hidden_state"] = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
    return maps


def _put_into(whole: Tensor, part: Tensor) -> Tensor:
    """The same numbers, with the top left part as the given tensor and not as a piece of the whole."""
    rebuilt = whole.clone()
    rebuilt[..., : part.shape[2], : part.shape[3]] = part
    return rebuilt


def own_queries(output: Any, num_queries: int) -> Callable[[Tensor], Tensor]:
    """Take from N×Q×… the queries that also predict: training puts denoising queries first, or groups behind."""
    denoising = output.get("denoising_meta_values")
    first = 0 if denoising is None else int(denoising["dn_num_split"][0])
    return lambda queries: queries[:, first : first + num_queries]
