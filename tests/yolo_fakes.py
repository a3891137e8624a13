"""A tiny detector with the structure that `kdet.detectors.yolo.ultralytics` looks for, written for these tests."""

from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

Answer = Literal["dict", "list", "two branches"]
BINS = 4
GAINS = ("box", "cls", "dfl")


class Head(nn.Module):
    """Edges and classes of each level; answers as newer versions do, as older ones, or for two branches."""

    def __init__(self, channels: tuple[int, ...], num_classes: int, answer: Answer, bins: int) -> None:
        super().__init__()
        self.f, self.nc, self.reg_max, self.answer = [1, 2], num_classes, bins, answer
        self.stride = torch.tensor([8.0, 16.0])
        self.end2end = False
        self.cv2 = nn.ModuleList(nn.Conv2d(c, 4 * bins, 1) for c in channels)
        self.cv3 = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels)
        self.other = nn.ModuleList(nn.Conv2d(c, 4 * bins + num_classes, 1) for c in channels)
        self.runs = 0

    def forward(self, maps: list[Tensor]) -> Any:
        self.runs += 1
        feats = list(maps)
        for i, (edges, classes) in enumerate(zip(self.cv2, self.cv3, strict=True)):
            maps[i] = torch.cat([edges(maps[i]), classes(maps[i])], 1)  # into the list, as old versions do
        raw: Any = maps if self.answer == "list" else self._named(maps, feats)
        if self.answer == "two branches":
            second = [last(m.detach()) for last, m in zip(self.other, feats, strict=True)]
            raw = {"one2many": raw, "one2one": self._named(second, feats)}
        return raw if self.training else (torch.zeros(1), raw)

    def _named(self, maps: list[Tensor], feats: list[Tensor]) -> dict[str, Any]:
        flat = torch.cat([m.flatten(2) for m in maps], 2)
        return {"boxes": flat[:, : 4 * self.reg_max], "scores": flat[:, 4 * self.reg_max :], "feats": feats}


class Assigner(nn.Module):
    """The first cells of an image answer for its objects, in their order."""

    def forward(self, batch: dict[str, Tensor], scores_NKA: Tensor) -> tuple[Tensor, ...]:
        images, _, cells = scores_NKA.shape
        inside = torch.zeros(images, cells, dtype=torch.bool)
        index = torch.zeros(images, cells, dtype=torch.int64)
        for image in range(images):
            count = int((batch["batch_idx"] == image).sum())
            inside[image, :count] = True
            index[image, :count] = torch.arange(count)
        return inside, inside, inside, inside, index


class Criterion:
    """Losses by name, times the number of images, with weights from the model's arguments."""

    def __init__(self, model: "Yolo") -> None:
        self.gains = [getattr(model.args, name) for name in GAINS]
        self.assigner = Assigner()

    def __call__(self, answer: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Any]:
        raw = answer[1] if isinstance(answer, tuple) else answer
        if isinstance(raw, dict) and "one2many" in raw:
            raw = raw["one2many"]
        if isinstance(raw, list):
            flat = torch.cat([m.flatten(2) for m in raw], 2)
            raw = {"boxes": flat[:, : 4 * BINS], "scores": flat[:, 4 * BINS :]}
        scores = raw["scores"]
        *_, inside, index = self.assigner(batch, scores)
        wanted = torch.zeros_like(scores).transpose(1, 2)
        for image in range(len(scores)):
            own = batch["cls"][batch["batch_idx"] == image, 0].long()
            wanted[image, inside[image]] = one_hot(own[index[image, inside[image]]], scores.shape[1]).float()
        classes = binary_cross_entropy_with_logits(scores, wanted.transpose(1, 2))
        edges = raw["boxes"].square().mean() + batch["bboxes"].sum() * 0
        total = torch.stack([gain * part for gain, part in zip(self.gains, (edges, classes, edges), strict=True)])
        return total * len(scores), {"box_loss": total[0], "cls_loss": total[1], "dfl_loss": total[2]}


class Decaying(Criterion):
    """A weight that a trainer moves after each epoch, from 0.8 in the first to 0.1 in the last."""

    def __init__(self, model: "Yolo") -> None:
        super().__init__(model)
        self.epochs, self.updates, self.weight = model.args.epochs, 0.0, 0.8

    def __call__(self, answer: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Any]:
        total, items = super().__call__(answer, batch)
        return total * self.weight, items

    def update(self) -> None:
        self.updates += 1
        self.weight = 0.8 - 0.7 * self.updates / (self.epochs - 1)


class Yolo(nn.Module):
    """Two levels of 8 and 12 channels at strides 8 and 16."""

    def __init__(self, num_classes: int = 3, answer: Answer = "dict", bins: int = BINS) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 8, 9, 8, 4), nn.BatchNorm2d(8), nn.ReLU())
        deeper = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.model = nn.Sequential(nn.Identity(), stem, deeper, Head((8, 12), num_classes, answer, bins))

    def forward(self, images: Tensor) -> Any:
        fine = self.model[1](self.model[0](images))
        return self.model[3]([fine, self.model[2](fine)])

    def init_criterion(self) -> Criterion:
        return Criterion(self)

    def loss(self, batch: dict[str, Tensor], preds: Any = None) -> tuple[Tensor, Any]:
        if getattr(self, "criterion", None) is None:
            self.criterion = self.init_criterion()
        return self.criterion(self(batch["img"]) if preds is None else preds, batch)


def yolo(**options: Any) -> Yolo:
    """One whose scores differ from cell to cell."""
    torch.manual_seed(3)
    model = Yolo(**options)
    for branch in (model.model[3].cv3, model.model[3].other):
        for layer in branch:
            nn.init.normal_(layer.weight, std=0.5)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, epochs=2)
    return model
