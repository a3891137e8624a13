"""What the adapters of torchvision's detectors share: pixels in, levels described, targets resized."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from kdet.detectors.targets import checked_images, checked_targets
from kdet.ops.canvas import canvas_hw, padded_hw, resized_hw
from kdet.types import Batch, Canvas, Detections, Detector, ImageSize, Level, SizeHW, Target


def normalised(model: Any, batch: Batch) -> ImageList:
    """Normalise a batch by the model's own mean and std, padding zero *after* normalisation as in torchvision."""
    images = model.transform.normalize(batch.images)
    height, width = images.shape[-2:]
    if any(size != (height, width) for size in batch.sizes_hw):
        inside = images.new_zeros((len(batch.sizes_hw), 1, height, width))
        for row, (h, w) in zip(inside, batch.sizes_hw, strict=True):
            row[:, :h, :w] = 1
        images = images * inside
    return ImageList(images.contiguous(memory_format=torch.channels_last), batch.sizes_hw)


def make_batch(
    detector: Detector, images: Sequence[Tensor], targets: Sequence[Target] | None, *, keep_size: bool = False
) -> Batch:
    """Lay images 3×H×W on the detector's own canvas, resized as torchvision does (bilinear); pixels stay in 0…1.

    Args:
        detector: whose size and canvas.
        images: of any shape.
        targets: in their pixels.
        keep_size: whether images are padded and no more.

    Raises:
        InputError: as `checked_images` and `checked_targets`.
    """
    images = checked_images(images, next((value.dtype for value in detector.model.parameters()), torch.float32))
    own = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    if targets is not None:
        targets = checked_targets(images, targets, detector.class_names)
    sizes = own if keep_size else [resized_hw(hw, _size_for(detector), detector.canvas) for hw in own]
    square = None if keep_size else canvas_hw(detector.image_size, detector.canvas)
    height, width = square or padded_hw((max(h for h, _ in sizes), max(w for _, w in sizes)))
    resized = [image if hw == was else _resized(image, hw) for image, hw, was in zip(images, sizes, own, strict=True)]
    padded = [F.pad(image, (0, width - w, 0, height - h)) for image, (h, w) in zip(resized, sizes, strict=True)]
    if targets is not None:
        boxes = [resize_boxes(t["boxes"], list(o), list(n)) for t, o, n in zip(targets, own, sizes, strict=True)]
        targets = [Target(boxes=b, labels=t["labels"]) for b, t in zip(boxes, targets, strict=True)]
    return Batch(
        images=torch.stack(padded),
        sizes_hw=sizes,
        original_sizes_hw=own,
        image_ids=list(range(len(images))),
        targets=None if targets is None else list(targets),
    )


def _size_for(detector: Detector) -> ImageSize:
    """Size for the next image. In training torchvision's models draw it, from several short sides or from one."""
    transform: Any = getattr(detector.model, "transform", None)
    if not isinstance(transform, GeneralizedRCNNTransform) or not transform.training or detector.canvas != "pad":
        return detector.image_size
    shorts: Any = transform.min_size
    drawn = transform.torch_choice(list(shorts))
    return (drawn, int(transform.max_size)) if len(shorts) > 1 else detector.image_size


def _resized(image: Tensor, size_hw: SizeHW) -> Tensor:
    return F.interpolate(image[None], size_hw, mode="bilinear", align_corners=False)[0]


def describe_levels(backbone: nn.Module, anchor_generator: nn.Module | None = None) -> tuple[Level, ...]:
    """Names, channels and strides of the neck's outputs, from a forward on the meta device: no arithmetic is done.

    With a generator, what it lays on one cell of each, too; SSD's, whose sizes are shares of the input, on an input of
    1024 pixels.
    """
    side = 1024
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]
    }
    image = torch.empty(1, 3, side, side, device="meta")
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        maps: dict[str, Tensor] = torch.func.functional_call(backbone, state, (image,))
    backbone.train(was_training)
    levels = tuple(
        Level(name, int(feature.shape[1]), 2 ** round(math.log2(side / feature.shape[2])))
        for name, feature in maps.items()
    )
    if anchor_generator is None:
        return levels
    anchors = _of_first_cells(anchor_generator, grids(list(maps.values())), (side, side))
    return tuple(
        replace(level, anchors=tuple(map(tuple, (boxes / level.stride).tolist())))
        for level, boxes in zip(levels, anchors, strict=True)
    )


def _of_first_cells(generator: Any, cells_hw: Sequence[SizeHW], size_hw: SizeHW) -> list[Tensor]:
    """The anchors of the cell at the top left of each level, in pixels."""
    number = torch.zeros(())  # the generator reads shape, precision and device alone
    images = ImageList(number.expand(1, 3, *size_hw), [size_hw])
    per_cell: list[int] = generator.num_anchors_per_location()
    maps = [number.expand(1, 1, h, w) for h, w in cells_hw]
    levels = generator(images, maps)[0].split(list(level_counts(maps, per_cell)))
    return [anchors[:count] for anchors, count in zip(levels, per_cell, strict=True)]


_PARTS = (
    *("torch.nn.", "torchvision.ops.", "torchvision.models._utils", "torchvision.models.detection."),
    "kdet.detectors.plain.",
)
"""Packages of the modules of which any network may be built."""


def backbone_kind(backbone: nn.Module) -> str:
    """Return the network that a backbone is made of: the file that defines its blocks; ResNet and ResNeXt share one."""
    blocks = [module for module in backbone.modules() if not type(module).__module__.startswith(_PARTS)]
    kind = type(blocks[0] if blocks else backbone)
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    grouped = any(1 < convolution.groups < convolution.in_channels for convolution in convolutions)
    return f"{kind.__module__ if blocks else kind.__name__}{' in groups' if grouped else ''}"


def own_image_size(model: Any) -> int | tuple[int, int]:
    """Read the size that the model's own transform resizes to: a fixed one, else the last short side and the limit."""
    transform = model.transform
    if transform.fixed_size is not None:
        return max(transform.fixed_size)
    short, limit = int(transform.min_size[-1]), int(transform.max_size)
    return limit if short == limit else (short, limit)


def own_canvas(model: Any) -> Canvas:
    """Return what the model's own transform does: SSD's squeezes into a fixed size, the others' pads."""
    fixed = model.transform.fixed_size
    return "stretch" if fixed is not None and fixed[0] == fixed[1] else "pad"


def own_pixels(model: Any) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation of the colours, of the model's own transform."""
    return tuple(model.transform.image_mean), tuple(model.transform.image_std)


def grids(features: Sequence[Tensor]) -> tuple[SizeHW, ...]:
    """Return the height and width of each level."""
    return tuple((int(f.shape[2]), int(f.shape[3])) for f in features)


def level_counts(features: Sequence[Tensor], per_cell: Sequence[int]) -> tuple[int, ...]:
    """Return the number of anchors of each level, from those of a cell."""
    return tuple(h * w * a for (h, w), a in zip(grids(features), per_cell, strict=True))


def without_background(scores: Tensor) -> Tensor:
    """Return the scores …×K with 0 in column 0, which is no object."""
    return torch.cat([torch.zeros_like(scores[..., :1]), scores[..., 1:]], dim=-1)


def detections(results: Sequence[dict[str, Any]]) -> list[Detections]:
    """Convert torchvision's dictionaries to Detections."""
    return [Detections(boxes=r["boxes"].float(), scores=r["scores"].float(), labels=r["labels"]) for r in results]


def as_dicts(targets: Sequence[Target]) -> list[dict[str, Tensor]]:
    """Return targets as the plain dictionaries that torchvision's functions take."""
    return [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
