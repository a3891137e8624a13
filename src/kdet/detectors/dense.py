"""torchvision's one-stage detectors with shared heads: RetinaNet and FCOS.

Legend: N images, A anchors of all levels, K class columns, M objects.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList

from kdet.detectors.torchvision_parts import (
    as_dicts,
    describe_levels,
    detections,
    grids,
    make_batch,
    normalised,
    own_image_size,
)
from kdet.types import Batch, Detections, HeadFeatures, Need, Observation, Target

_HEAD = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT, Need.LOSSES, Need.HEAD_FEATURES})


class DenseDetector:
    """RetinaNet or FCOS of torchvision (v1, v2 or any variant) behind the Detector protocol."""

    gives = _HEAD | {Need.FEATURES}
    predicts = True

    def __init__(self, model: RetinaNet | FCOS, class_names: Sequence[str]) -> None:
        self.family = "retinanet" if isinstance(model, RetinaNet) else "fcos"
        self.model: Any = model  # torchvision's attributes carry no types
        self.build_arguments: dict[str, Any] | None = None
        self.image_size = own_image_size(model)
        self.class_names = tuple(class_names)
        self.levels = describe_levels(model.backbone)

    def batch(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Batch:
        """Resize by the model's own transform and pad."""
        return make_batch(self.model, images, targets)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Target] | None = None) -> Observation:
        """Backbone and neck; the head and the task losses only where `needs` asks for them."""
        images = normalised(self.model, batch)
        features = list(self.model.backbone(images.tensors).values())
        size_hw = (int(images.tensors.shape[2]), int(images.tensors.shape[3]))
        if not needs & _HEAD:
            return Observation(levels=self.levels, input_size_hw=size_hw, features=features)
        with self._hidden(Need.HEAD_FEATURES in needs) as hidden:
            outputs: dict[str, Tensor] = self.model.head(features)
        anchors: list[Tensor] = self.model.anchor_generator(images, features)
        losses: dict[str, Tensor] = {}
        assignment = None
        if needs & {Need.ASSIGNMENT, Need.LOSSES}:
            assert targets is not None, "task losses and assignment need targets"
            with self._assignments() as seen:
                losses = self._losses(targets, outputs, anchors, features)
            assignment = torch.stack(seen)
        return Observation(
            levels=self.levels,
            input_size_hw=size_hw,
            features=features,
            class_logits=outputs["cls_logits"],
            quality_logits=outputs["bbox_ctrness"].squeeze(-1) if self.family == "fcos" else None,
            boxes=self._decode(outputs["bbox_regression"], anchors) if Need.BOXES in needs else None,
            assignment=assignment,
            anchors_per_cell=tuple(self.model.anchor_generator.num_anchors_per_location()),
            cells_hw=grids(features),
            losses=losses,
            head_features=tuple(hidden),
        )

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections after the model's own threshold, top-k and NMS."""
        images = normalised(self.model, batch)
        features = list(self.model.backbone(images.tensors).values())
        outputs: dict[str, Tensor] = self.model.head(features)
        anchors: list[Tensor] = self.model.anchor_generator(images, features)
        per_cell = self.model.anchor_generator.num_anchors_per_location()
        counts = [h * w * a for (h, w), a in zip(grids(features), per_cell, strict=True)]
        split = {name: list(value.split(counts, dim=1)) for name, value in outputs.items()}
        split_anchors = [list(a.split(counts)) for a in anchors]
        return detections(self.model.postprocess_detections(split, split_anchors, images.image_sizes))

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits N×A×K of this head on given neck outputs."""
        return self.model.head(list(features))["cls_logits"]

    def finish_head(self, hidden: HeadFeatures, after: int, own: Observation) -> Observation:
        """Logits and boxes of this head's rest on given maps before the activation of its `after`-th hidden layer."""
        classifier, regressor = self.model.head.classification_head, self.model.head.regression_head
        class_maps = _finish(classifier.conv, hidden.classes, after)
        box_maps = _finish(regressor.conv, hidden.boxes, after)
        regression = _rows([regressor.bbox_reg(m) for m in box_maps], 4)
        quality = None
        if self.family == "fcos":
            regression = regression.relu()  # torchvision does it inside the head
            quality = _rows([regressor.bbox_ctrness(m) for m in box_maps], 1).squeeze(-1)
        return replace(
            own,
            class_logits=_rows([classifier.cls_logits(m) for m in class_maps], classifier.num_classes),
            quality_logits=quality,
            boxes=self._decode(regression, self._anchors(own)),
        )

    def native_state(self) -> dict[str, Tensor]:
        """torchvision's own state_dict."""
        return self.model.state_dict()

    def _losses(
        self, targets: Sequence[Target], outputs: dict[str, Tensor], anchors: list[Tensor], features: list[Tensor]
    ) -> dict[str, Tensor]:
        if self.family == "fcos":
            cells = [h * w for h, w in grids(features)]
            return self.model.compute_loss(as_dicts(targets), outputs, anchors, cells)
        return self.model.compute_loss(as_dicts(targets), outputs, anchors)

    @contextmanager
    def _assignments(self) -> Generator[list[Tensor]]:
        """Collect the label assignment that torchvision computes inside `compute_loss` and hands to its head."""
        head = self.model.head
        compute_loss = head.compute_loss
        seen: list[Tensor] = []

        def watched(
            targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor], matched: list[Tensor]
        ) -> dict[str, Tensor]:
            seen.extend(matched)
            return compute_loss(targets, outputs, anchors, matched)

        head.compute_loss = watched
        try:
            yield seen
        finally:
            del head.compute_loss  # the instance's attribute; the class's method is there again

    @contextmanager
    def _hidden(self, wanted: bool) -> Generator[list[HeadFeatures]]:
        """Collect what the activations of both branches are given; the list is filled when the context closes."""
        head, found = self.model.head, list[HeadFeatures]()
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

    def _anchors(self, own: Observation) -> list[Tensor]:
        """The anchors of each image of an observation."""
        assert own.features is not None
        count = len(own.features[0])
        pixels = own.features[0].new_zeros(()).expand(count, 3, *own.input_size_hw)  # only their size is read
        return self.model.anchor_generator(ImageList(pixels, [own.input_size_hw] * count), own.features)

    def _decode(self, regression: Tensor, anchors: list[Tensor]) -> Tensor:
        """Regression N×A×4 to boxes, in float32."""
        coder = self.model.box_coder
        pairs = zip(regression.float(), anchors, strict=True)
        if self.family == "fcos":
            return torch.stack([coder.decode(r, a) for r, a in pairs])
        return torch.stack([coder.decode_single(r, a) for r, a in pairs])


def _activations(branch: nn.Module) -> list[nn.ReLU]:
    """One per hidden layer."""
    return [module for module in branch.modules() if isinstance(module, nn.ReLU)]


def _keeper(kept: list[Tensor]) -> Callable[[nn.ReLU, tuple[Tensor]], None]:
    def keep(activation: nn.ReLU, given: tuple[Tensor]) -> None:
        kept.append(given[0].clone() if activation.inplace else given[0])

    return keep


def _finish(branch: nn.Module, maps: list[Tensor], after: int) -> list[Tensor]:
    """From before the `after`-th activation of a branch to its end."""
    layers = [module for module in branch.modules() if next(module.children(), None) is None]
    rest = layers[layers.index(_activations(branch)[after - 1]) + 1 :]
    maps = [m.relu() for m in maps]  # the branch's own activation may work in place, and these are the caller's
    for layer in rest:
        maps = [layer(m) for m in maps]
    return maps


def _rows(maps: list[Tensor], columns: int) -> Tensor:
    """Maps N×(A·K)×H×W of all levels, A here the anchors of one cell, as N×A×K, A of all levels."""
    split = [m.reshape(len(m), -1, columns, *m.shape[2:]).permute(0, 3, 4, 1, 2) for m in maps]
    return torch.cat([m.reshape(len(m), -1, columns) for m in split], dim=1)
