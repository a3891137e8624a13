"""libreyolo's YOLOv9, YOLOX and RTMDet, taken apart; `libreyolo_models.py` brings them and their losses.

Legend: N images, A cells of all levels, M objects of one image.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from kdet.detectors.exact import exact, saying_exactly
from kdet.detectors.plain.towers import rows
from kdet.detectors.yolo.points import Scored, boxes_around, cell_points, expected_bin
from kdet.ops.selection import Selection
from kdet.types import Target

_AS_VALIDATED = Selection(score=0.001, best=30000, group="image", nms_iou=0.6, detections=300)
"""Selection with which libreyolo measures AP."""
MakeLoss = Callable[[Any, torch.device], Any]
"""(head, device) → the library's loss."""
_CLOSING = 15 / 300
"""Share of a run, at its end, in which libreyolo's trainer (and Megvii's) adds an L1 loss to YOLOX."""


class Yolo9Parts:
    """YOLOv9 without the auxiliary branch (PGI) that libreyolo's trainer attaches, with its loss times 0.25."""

    pixels = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    selection = _AS_VALIDATED
    has_edges = True
    progress: float | None = None

    def __init__(self, model: Any, make_loss: MakeLoss) -> None:
        self.model = model
        self.backbone = type(model.backbone).__name__
        self.strides = tuple(int(stride) for stride in model.head.stride)
        self.image_size: int | tuple[int, int] = 640
        self._make_loss = make_loss
        self._loss: tuple[torch.device, Any] | None = None

    def neck(self, images: Tensor) -> list[Tensor]:
        """Backbone and neck."""
        return list(self.model.neck(*self.model.backbone(images)))

    def run(self, images: Tensor) -> tuple[list[Tensor], Any]:
        """Return the same maps, and what the head answers on them."""
        features = self.neck(images)
        return features, self.head(features)

    def head(self, features: list[Tensor]) -> Any:
        """One map of edges and classes per level."""
        answer = self.model.head(features)
        return exact(answer[1] if isinstance(answer, tuple) else answer)

    def scored(self, answer: Any, features: Sequence[Tensor], *, final: bool = False) -> Scored:
        """Logits, distributions and boxes."""
        flat = torch.cat([m.flatten(2) for m in answer], dim=2)
        num_classes = self.model.head.nc
        edge_logits = flat[:, :-num_classes].unflatten(1, (4, -1)).permute(0, 3, 1, 2)
        points, scales = cell_points(features, self.strides, 0.5)
        return Scored(
            class_logits=flat[:, -num_classes:].transpose(1, 2),
            boxes=boxes_around(points, expected_bin(edge_logits) * scales),
            edge_logits=edge_logits,
        )

    def scores(self, scored: Scored) -> Tensor:
        """The sigmoid of each class."""
        return scored.class_logits.sigmoid()

    def losses(self, images: Tensor, answer: Any, targets: Sequence[Target]) -> tuple[dict[str, Tensor], Tensor]:
        """libreyolo's loss, and what its matcher said."""
        height, width = images.shape[2:]
        if self._loss is None or self._loss[0] != images.device:
            self._loss = images.device, self._make_loss(self.model.head, images.device)
        loss = self._loss[1]
        loss.update_anchors([width, height])
        frame = images.new_tensor([1, width, height, width, height])
        with _matched(loss) as said:
            found = loss(answer, _padded(targets, "xyxy") / frame)
        inside, index = said[0]
        return _parts_of(found), torch.where(inside, index.long(), -1)


class YoloxParts:
    """YOLOX, whose objectness multiplies the class score."""

    pixels = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    selection = Selection(score=0.001, best=None, group="image", nms_iou=0.6, detections=300)
    has_edges = False
    progress: float | None = None

    def __init__(self, model: Any) -> None:
        self.model = model
        self.backbone = type(model.backbone).__name__
        self.strides = tuple(int(stride) for stride in model.head.strides)
        self.image_size: int | tuple[int, int] = 640

    def neck(self, images: Tensor) -> list[Tensor]:
        """Backbone with its neck; the module reads blue, green, red."""
        return list(self.model.backbone(images.flip(1)))

    def run(self, images: Tensor) -> tuple[list[Tensor], Any]:
        """Return the same maps, and what the head answers on them."""
        features = self.neck(images)
        return features, self.head(features)

    def head(self, features: list[Tensor]) -> Any:
        """Decoded boxes and logits N×A×(5 + K), and what the library's loss reads beside them."""
        head = self.model.head
        if self.progress is not None:
            head.use_l1 = self.progress >= 1 - _CLOSING
        with saying_exactly([*head.cls_preds, *head.reg_preds, *head.obj_preds]):  # it decodes in their precision
            return exact(head.forward_train_maps(features))

    def scored(self, answer: Any, features: Sequence[Tensor], *, final: bool = False) -> Scored:
        """Logits, objectness and boxes."""
        decoded = answer[0]
        return Scored(
            class_logits=decoded[..., 5:],
            quality_logits=decoded[..., 4],
            boxes=box_convert(decoded[..., :4], "cxcywh", "xyxy"),
        )

    def scores(self, scored: Scored) -> Tensor:
        """Class times objectness; a cell finds its best class alone."""
        assert scored.quality_logits is not None
        scores = scored.class_logits.sigmoid() * scored.quality_logits.sigmoid()[..., None]
        return scores.where(scores == scores.amax(-1, keepdim=True), 0)

    def losses(self, images: Tensor, answer: Any, targets: Sequence[Target]) -> tuple[dict[str, Tensor], Tensor]:
        """libreyolo's loss, and what its assignment said."""
        decoded, x_shifts, y_shifts, strides, raw = answer
        labels = _padded(targets, "cxcywh").to(decoded.dtype)
        with _assigned(self.model.head) as said:
            found = self.model.head.get_losses(
                images, x_shifts, y_shifts, strides, labels, decoded, raw, dtype=decoded.dtype
            )
        assignment = torch.full(decoded.shape[:2], -1, dtype=torch.int64, device=decoded.device)
        for image, inside, index in said:
            assignment[image, inside] = index
        return _parts_of(found), assignment


class RtmdetParts:
    """RTMDet."""

    pixels = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    selection = _AS_VALIDATED
    has_edges = False
    progress: float | None = None

    def __init__(self, model: Any, make_loss: MakeLoss) -> None:
        self.model = model
        self.backbone = type(model.backbone).__name__
        self.strides = tuple(int(stride) for stride in model.head.strides)
        self.image_size: int | tuple[int, int] = 640
        self._make_loss = make_loss

    def neck(self, images: Tensor) -> list[Tensor]:
        """Backbone and neck; the module reads blue, green, red."""
        return list(self.model.neck(self.model.backbone(images.flip(1))))

    def run(self, images: Tensor) -> tuple[list[Tensor], Any]:
        """Return the same maps, and what the head answers on them."""
        features = self.neck(images)
        return features, self.head(features)

    def head(self, features: list[Tensor]) -> Any:
        """Class logits and distances in pixels, one map of each per level."""
        return exact(self.model.head(tuple(features)))

    def scored(self, answer: Any, features: Sequence[Tensor], *, final: bool = False) -> Scored:
        """Logits and boxes."""
        logits, distances = answer
        points, _ = cell_points(features, self.strides, 0.0)
        return Scored(
            class_logits=rows(list(logits), self.model.head.num_classes),
            boxes=boxes_around(points, rows(list(distances), 4)),
        )

    def scores(self, scored: Scored) -> Tensor:
        """The sigmoid of each class."""
        return scored.class_logits.sigmoid()

    def losses(self, images: Tensor, answer: Any, targets: Sequence[Target]) -> tuple[dict[str, Tensor], Tensor]:
        """libreyolo's loss, and the objects that its assigner's boxes and labels are those of."""
        loss = self._make_loss(self.model.head, images.device)
        said: list[Any] = []
        loss.assigner.register_forward_hook(lambda module, given, output: said.append(output))
        found = loss(*answer, [t["boxes"] for t in targets], [t["labels"] for t in targets])
        labels, boxes = said[0]["assigned_labels"], said[0]["assigned_bboxes"]
        pairs = zip(boxes, labels, targets, strict=True)
        return _parts_of(found), torch.stack([_object_of(*each) for each in pairs])


def _object_of(boxes_A4: Tensor, labels_A: Tensor, target: Target) -> Tensor:
    """Index of the object with this box and label; -1 where there is none."""
    if not len(target["boxes"]):
        return torch.full_like(labels_A, -1)
    same = (boxes_A4[:, None] == target["boxes"][None]).all(-1) & (labels_A[:, None] == target["labels"][None])
    return torch.where(same.any(1), same.int().argmax(1), -1)


def _padded(targets: Sequence[Target], form: str) -> Tensor:
    """N×M×5: class and box in pixels, zeros below the last object; at least one row."""
    each = [
        torch.cat([t["labels"][:, None].float(), box_convert(t["boxes"], "xyxy", form).float()], dim=1) for t in targets
    ]
    padded = pad_sequence(each, batch_first=True)
    return padded if padded.shape[1] else padded.new_zeros(len(targets), 1, 5)


def _parts_of(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """The parts of the library's total, by its names."""
    parts = {name: value for name, value in found.items() if "loss" in name and name != "total_loss"}
    return {name: value for name, value in parts.items() if isinstance(value, Tensor)}


@contextmanager
def _matched(loss: Any) -> Generator[list[tuple[Tensor, Tensor]]]:
    """Collect which cells YOLOv9's matcher takes, and the object of each."""
    matcher, said = loss.matcher, list[tuple[Tensor, Tensor]]()

    def watched(target: Tensor, predicted: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        aligned, inside, index = matcher(target, predicted, return_indices=True)
        said.append((inside, index))
        return aligned, inside

    loss.matcher = watched
    try:
        yield said
    finally:
        loss.matcher = matcher


@contextmanager
def _assigned(head: Any) -> Generator[list[tuple[int, Tensor, Tensor]]]:
    """Collect image, cells and the object of each from YOLOX's assignment."""
    assign, said = head.get_assignments, list[tuple[int, Tensor, Tensor]]()

    def watched(image: int, *rest: Any) -> Any:
        found = assign(image, *rest)
        said.append((image, found[1], found[3]))
        return found

    head.get_assignments = watched
    try:
        yield said
    finally:
        del head.get_assignments  # the instance's attribute; the class's method is there again
