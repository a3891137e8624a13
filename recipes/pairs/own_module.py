"""A detector that no library knows, as somebody might have written it, and the function that lends it to kdet.

Each cell of three levels says what is at its middle and how far away the four sides of its box are.
Nothing but `build` knows of kdet.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.ops import batched_nms, box_area, generalized_box_iou_loss, sigmoid_focal_loss

import kdet
from kdet.types import Detector

STRIDES = (8, 16, 32)
LARGEST_SIDE = (48, 96, 10_000)
"""In pixels, of the objects of each level."""


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Own(nn.Module):
    """Stem, neck and head; returns class logits N×A×K and distances N×A×4 in pixels, finest level first."""

    def __init__(self, num_classes: int, channels: int = 64) -> None:
        super().__init__()
        half = channels // 2
        self.stem = nn.Sequential(
            conv(3, half, 2), conv(half, half, 2), conv(half, channels, 2), conv(channels, channels)
        )
        self.neck = nn.ModuleDict(
            {"p3": conv(channels, channels), "p4": conv(channels, channels, 2), "p5": conv(channels, channels, 2)}
        )
        self.head = conv(channels, channels)
        self.classes = nn.Conv2d(channels, num_classes, 1)
        self.sides = nn.Conv2d(channels, 4, 1)
        nn.init.constant_(self.classes.bias, -4.0)  # a score of 0.02: nearly every cell is background

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        at, logits, sides = self.stem(images), [], []
        for stride, level in zip(STRIDES, self.neck.values(), strict=True):
            at = level(at)
            hidden = self.head(at)
            logits.append(self.classes(hidden).flatten(2).transpose(1, 2))
            sides.append(self.sides(hidden).exp().flatten(2).transpose(1, 2) * stride)
        return torch.cat(logits, 1).float(), torch.cat(sides, 1).float()  # in mixed precision, too


def middles(images: Tensor) -> tuple[Tensor, Tensor]:
    """Middle of each cell, A×2, and its level, A."""
    points, levels = [], []
    for number, stride in enumerate(STRIDES):
        height, width = (-(-side // stride) for side in images.shape[-2:])
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        levels.append(torch.full((height * width,), number))
    return torch.cat(points).to(images), torch.cat(levels).to(images.device)


def boxes_from(points: Tensor, sides: Tensor) -> Tensor:
    """x1 y1 x2 y2 from the distances to the left, top, right and bottom."""
    return torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)


def assigned(points: Tensor, levels: Tensor, boxes: Tensor) -> Tensor:
    """Index of each cell's object, A; -1 where it has none: the smallest box of its level around it."""
    if not len(boxes):
        return points.new_full((len(points),), -1, dtype=torch.long)
    inside = torch.cat([points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], -1).amin(-1) > 0
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(-1)
    own_level = torch.bucketize(longest, torch.tensor(LARGEST_SIDE[:-1]).to(longest))
    cost = torch.where(inside & (own_level == levels[:, None]), box_area(boxes), torch.inf)
    best = cost.min(1)
    return torch.where(best.values.isfinite(), best.indices, -1)


def losses(model: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    logits, sides = model(images)
    points, levels = middles(images)
    wanted = torch.zeros_like(logits)
    found: list[Tensor] = []
    boxes: list[Tensor] = []
    for i, target in enumerate(targets):
        owner = assigned(points, levels, target["boxes"])
        positive = owner >= 0
        owner = owner[positive]
        wanted[i, positive, target["labels"][owner]] = 1
        found.append(boxes_from(points[positive], sides[i, positive]))
        boxes.append(target["boxes"][owner])
    count = max(1, sum(map(len, boxes)))
    return {
        "class": sigmoid_focal_loss(logits, wanted, reduction="sum") / count,
        "box": generalized_box_iou_loss(torch.cat(found), torch.cat(boxes), reduction="sum") / count,
    }


def predict(model: nn.Module, images: Tensor, sizes_hw: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
    logits, sides = model(images)
    points, _ = middles(images)
    results: list[dict[str, Tensor]] = []
    for scores, box, (height, width) in zip(logits.sigmoid(), boxes_from(points, sides), sizes_hw, strict=True):
        best, at = scores.flatten().topk(min(300, scores.numel()))
        labels, box = at % scores.shape[1], box[at // scores.shape[1]]
        box = torch.stack([relu(box[:, i]).clamp(max=(width, height)[i % 2]) for i in range(4)], -1)
        kept = batched_nms(box, best, labels, 0.6)[:100]
        results.append({"boxes": box[kept], "scores": best[kept], "labels": labels[kept]})
    return results


def build(classes: list[str], channels: int = 64) -> Detector:
    """The detector as kdet sees it; `factory: recipes.pairs.own_module:build` in a recipe."""
    return kdet.wrap(
        Own(len(classes), channels),
        classes,
        features=["neck.p3", "neck.p4", "neck.p5"],
        strides=STRIDES,
        losses=losses,
        predict=predict,
    )
