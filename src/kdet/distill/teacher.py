"""A teacher that cannot learn, wake up or leak."""

from collections.abc import Sequence
from dataclasses import replace
from types import MethodType

import torch
from torch import Tensor, nn

from kdet.distill.cache.teacher_cache import TeacherCache
from kdet.ops.boxes import scaled
from kdet.types import Batch, Detections, Detector, DividedHead, HeadFeatures, Need, Observation


def _stay_frozen(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train()`: evaluation mode is where a teacher stays."""
    return module


class FrozenTeacher:
    """A detector in evaluation mode, without gradients, observed under no_grad.

    It is no nn.Module on purpose: registered nowhere, it is in nobody's state_dict, optimizer, EMA or DDP wrapper.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.model = detector.model.requires_grad_(False).eval()
        for module in self.model.modules():
            module.train = MethodType(_stay_frozen, module)
        self.family = detector.family
        self.class_names = detector.class_names
        self.levels = detector.levels
        self.provides = detector.provides - {Need.LOSSES, Need.ASSIGNMENT, Need.PROPOSALS}
        self.build_arguments = detector.build_arguments
        self.cache: TeacherCache | None = None
        """Asked first, where there is one."""

    @torch.no_grad()
    def observe(self, batch: Batch, needs: frozenset[Need]) -> Observation:
        """Observe the batch, boxes in pixels of the student's input; the pass stops where needs are met."""
        own = batch.for_teacher()
        if self.cache is None:
            seen = self.detector.observe(own, needs)
        else:
            seen = self.cache.observe(own, needs, self.detector.observe)
        if batch.teacher_images is None:
            return seen
        sizes = own.images.shape[-2:], batch.images.shape[-2:]
        boxes, queries = (None if b is None else scaled(b, *sizes) for b in (seen.boxes, seen.query_boxes))
        return replace(seen, boxes=boxes, query_boxes=queries)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        """Detect objects, boxes in pixels of the student's input."""
        own = batch.for_teacher()
        found = self.detector.predict(own)
        if batch.teacher_images is None:
            return found
        sizes = own.images.shape[-2:], batch.images.shape[-2:]
        return [replace(one, boxes=scaled(one.boxes, *sizes)) for one in found]

    @torch.no_grad()
    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Class logits of the teacher's head on given features or regions."""
        return self.detector.head_from(features, proposals)

    def finish_head(self, hidden: HeadFeatures, after: int, own: Observation) -> Observation:
        """The rest of the teacher's head on given maps; their gradients pass through it, its weights keep none."""
        assert isinstance(self.detector, DividedHead)
        return self.detector.finish_head(hidden, after, own)
