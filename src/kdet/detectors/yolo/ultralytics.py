"""YOLO models as ultralytics builds them, recognised by their structure; that library is neither imported nor needed.

Such a module has its layers in `model.model`, the last of which is the head: it names its classes (`nc`), strides,
bins (`reg_max`) and the layers that feed it (`f`). `model.loss(batch, answer)` is its own loss, `init_criterion()`
makes what that loss keeps, and the criterion's `assigner` is a module whose output can be read.

Legend: N images, A cells of all levels, K class columns, M objects of the batch, B bins of an edge's distribution.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from kdet.detectors.exact import exact
from kdet.detectors.plain.exact import sizes_alone
from kdet.detectors.yolo.points import PointDetector, Scored, boxes_around, cell_points, expected_bin
from kdet.errors import InputError
from kdet.ops.classes import real_classes
from kdet.ops.selection import Selection
from kdet.types import Target

_GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": 100}
"""Weights of the losses where the module was built without any: the library's defaults."""
_NAMES = ("box_loss", "cls_loss", "dfl_loss")
_ANSWER = {"boxes", "scores", "feats"}
_IMAGE_SIZE = 640
_AT_MOST = 30000
"""Candidates of an image that go into NMS."""
_DETECTIONS = 300


class _HeadReached(Exception):
    """Stops a forward pass where the head would begin."""


def is_yolo(model: nn.Module) -> bool:
    """Whether the structure is there, in the module itself or in what it holds as `model`."""
    return _has_structure(model) or _has_structure(getattr(model, "model", None))


def wrap_yolo(model: Any, classes: Sequence[str]) -> PointDetector:
    """Wrap a module of this structure; one whose weights are all frozen, as in stored checkpoints, is thawed.

    Raises:
        InputError: the number of names does not fit, or the head predicts something else than boxes and classes.
    """
    bare = model if _has_structure(model) else model.model
    head = bare.model[-1]
    names = tuple(classes)
    if len(names) != head.nc:
        raise InputError(
            f"expected {head.nc} class names, one per class of the {type(bare).__name__}'s head, got {len(names)}"
        )
    real_classes(names)
    if not any(parameter.requires_grad for parameter in bare.parameters()):
        fixed = {id(parameter) for parameter in getattr(head, "dfl", nn.Identity()).parameters()}
        for parameter in bare.parameters():
            parameter.requires_grad_(id(parameter) not in fixed)
    _unshare_activations(bare)
    return PointDetector("yolo", YoloParts(bare.to(memory_format=torch.channels_last)), names)


class YoloParts:
    """Such a module, taken apart.

    Where training has two branches (one-to-many, one-to-one), logits and assignment are those of one-to-many, whose
    gradient reaches the neck; detections are those of the branch that the head itself chooses.
    """

    pixels = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    progress: float | None = None

    def __init__(self, model: Any) -> None:
        self.model = model
        # Its blocks' classes, which change from version to version.
        self.backbone = " ".join(sorted({type(layer).__name__ for layer in model.model[:-1]}))
        self.strides = tuple(round(float(stride)) for stride in self._head.stride)
        self.has_edges = self._head.reg_max > 1
        _complete_arguments(model)
        size = getattr(model.args, "imgsz", None)
        self.image_size: int | tuple[int, int] = size if isinstance(size, int) else _IMAGE_SIZE
        self._device: torch.device | None = None

    @property
    def selection(self) -> Selection:
        """Selection with which the library validates the branch that the head chooses, which may end without NMS."""
        ends_itself = self._end_to_end
        return Selection(
            score=0.001,
            best=_DETECTIONS if ends_itself else _AT_MOST,
            group="image",
            nms_iou=None if ends_itself else 0.7,
            detections=_DETECTIONS,
            clip=False,
        )

    @property
    def _head(self) -> Any:
        return self.model.model[-1]

    @property
    def _end_to_end(self) -> bool:
        return bool(getattr(self._head, "end2end", False))

    def neck(self, images: Tensor) -> list[Tensor]:
        """The maps that feed the head; the pass ends there."""
        with self._entering(stop=True) as features, suppress(_HeadReached):
            self.model(images)
        return features

    def run(self, images: Tensor) -> tuple[list[Tensor], Any]:
        """One pass through the whole model."""
        with self._entering(stop=False) as features:
            answer = self.model(images)
        return features, _exactly(answer)

    def head(self, features: list[Tensor]) -> Any:
        """The head on given maps."""
        return _exactly(self._head(features))

    def scored(self, answer: Any, features: Sequence[Tensor], *, final: bool = False) -> Scored:
        """Logits and boxes of one branch."""
        edges, class_logits = self._branch(answer, final)
        points, scales = cell_points(features, self.strides, 0.5)
        edge_logits = None
        if self.has_edges:
            edge_logits = edges.unflatten(1, (4, -1)).permute(0, 3, 1, 2)
            distances = expected_bin(edge_logits)
        else:
            distances = edges.transpose(1, 2)
        return Scored(
            class_logits=class_logits.transpose(1, 2),
            boxes=boxes_around(points, distances * scales),
            edge_logits=edge_logits,
        )

    def scores(self, scored: Scored) -> Tensor:
        """The sigmoid of each class."""
        return scored.class_logits.sigmoid()

    def losses(self, images: Tensor, answer: Any, targets: Sequence[Target]) -> tuple[dict[str, Tensor], Tensor]:
        """`model.loss`, which the library multiplies by the number of images, and what its assigner said."""
        criterion = self._criterion(images.device)
        with _listening_to(getattr(criterion, "one2many", criterion).assigner) as said:
            total, items = self.model.loss(_labels(images, targets), answer)
        total = total.reshape(-1)
        names: list[str] = list(items) if isinstance(items, Mapping) else list(_NAMES)
        parts: dict[str, Tensor] = {"loss": total[0]}
        if len(total) > 1:
            parts = dict(zip(names, total, strict=True))
        _, _, _, inside, index = said[0]
        return parts, torch.where(inside.bool(), index.long(), -1)

    def _criterion(self, device: torch.device) -> Any:
        """It holds tensors of one device and is made anew for another.

        The library's trainer calls its `update` after each epoch, where it has one: YOLO26 weighs one-to-many by 0.8
        and one-to-one by 0.2 at first, by 0.1 and 0.9 at last. Here the same line is followed step by step.
        """
        moved = self._device not in (None, device)
        if moved or getattr(self.model, "criterion", None) is None:
            self.model.criterion = self.model.init_criterion()
        self._device = device
        criterion = self.model.criterion
        if self.progress is not None and hasattr(criterion, "update"):
            criterion.updates = self.progress * max(self.model.args.epochs - 1, 1) - 1  # `update` adds one
            criterion.update()
        return criterion

    def _branch(self, answer: Any, final: bool) -> tuple[Tensor, Tensor]:
        """Edges N×(4·B)×A and class logits N×K×A."""
        found = answer[1] if isinstance(answer, tuple) else answer
        if isinstance(found, Mapping) and "one2many" in found:
            wanted = "one2one" if (final and self._end_to_end) or not found["one2many"] else "one2many"
            found = found[wanted]
        if isinstance(found, Mapping) and set(found) == _ANSWER:
            return found["boxes"], found["scores"]
        width = self._head.nc + 4 * self._head.reg_max
        if isinstance(found, list) and all(isinstance(m, Tensor) and m.shape[1] == width for m in found):
            flat = torch.cat([m.flatten(2) for m in found], dim=2)
            return flat[:, : -self._head.nc], flat[:, -self._head.nc :]
        raise InputError(
            f"a {type(self._head).__name__} predicts something else than boxes and classes; kdet distils detection "
            "heads alone: wrap the module by its taps, kdet.wrap(module, features=[…], strides=[…])"
        )

    @contextmanager
    def _entering(self, *, stop: bool) -> Generator[list[Tensor]]:
        """Collect what the head is given while the context is open; old heads write into that very list."""
        features: list[Tensor] = []

        def at_head(_: nn.Module, given: Any) -> None:
            features.extend(given[0])
            if stop:
                raise _HeadReached

        hook = self._head.register_forward_pre_hook(at_head)
        try:
            yield features
        finally:
            hook.remove()


def _exactly(answer: Any) -> Any:
    """A head's answer in float32; of the maps in it, from which the loss reads sizes and precision, the sizes alone."""
    if isinstance(answer, tuple):
        return tuple(_exactly(part) for part in cast(tuple[Any, ...], answer))
    if not isinstance(answer, Mapping):
        return exact(answer)
    return {
        name: sizes_alone(part) if name == "feats" else _exactly(part)
        for name, part in cast(Mapping[str, Any], answer).items()
    }


def _has_structure(model: Any) -> bool:
    layers = getattr(model, "model", None)
    if not isinstance(layers, nn.Sequential | nn.ModuleList) or not len(layers):
        return False
    says = all(hasattr(layers[-1], name) for name in ("f", "nc", "reg_max", "stride"))
    return says and callable(getattr(model, "loss", None)) and callable(getattr(model, "init_criterion", None))


def _unshare_activations(model: nn.Module) -> None:
    """One activation object serves all models of a process there; a teacher's must not freeze with the student's."""
    for module in model.modules():
        for name, child in module.named_children():
            if not (child._parameters or child._buffers or child._modules):  # pyright: ignore[reportPrivateUsage]
                setattr(module, name, copy(child))


def _complete_arguments(model: Any) -> None:
    """The loss reads its weights from `model.args`, which a trainer of the library would have set."""
    given = getattr(model, "args", None)
    known = dict(given) if isinstance(given, Mapping) else dict(vars(given)) if given is not None else {}
    if isinstance(given, Mapping) or not _GAINS.keys() <= known.keys():
        model.args = SimpleNamespace(**{**_GAINS, **known})


def _labels(images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Targets as the library's loss reads them: classes M×1, centre and size M×4 as fractions of the input."""
    height, width = images.shape[2:]
    counts = torch.tensor([len(target["boxes"]) for target in targets], device=images.device)
    boxes = torch.cat([target["boxes"] for target in targets])
    frame = boxes.new_tensor([width, height, width, height])
    return {
        "img": images,
        "batch_idx": torch.arange(len(targets), device=images.device).repeat_interleave(counts).to(boxes.dtype),
        "cls": torch.cat([target["labels"] for target in targets]).to(boxes.dtype)[:, None],
        "bboxes": box_convert(boxes, "xyxy", "cxcywh") / frame,
    }


@contextmanager
def _listening_to(assigner: nn.Module) -> Generator[list[Any]]:
    said: list[Any] = []
    hook = assigner.register_forward_hook(lambda module, given, output: said.append(output))
    try:
        yield said
    finally:
        hook.remove()
