"""An exported file behind the Detector protocol, so that it is evaluated, timed and looked at like any model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdet.detectors.batching import make_batch
from kdet.errors import InputError, WorkError
from kdet.export.about import About
from kdet.export.target import Run
from kdet.ops.precision import full_precision
from kdet.ops.selection import Candidates, Selected, select
from kdet.types import Batch, Canvas, Detections, Need, Observation
from kdet.types import Target as Objects


class ExportedDetector:
    """What a file finds. It has no weights that kdet could train, and reveals nothing but detections."""

    levels = ()
    provides: frozenset[Need] = frozenset()
    predicts = True
    build_arguments: dict[str, Any] | None = None

    def __init__(self, path: Path, about: About, run: Run, precision: str) -> None:
        self.path = path
        self.about = about
        self.precision = precision if about.precision == "fp32" else about.precision
        """In which it computes here: fp32, bf16, fp16 or int8."""
        self.family = f"{about.family}, {path.suffix[1:]}"
        self.architecture: tuple[str, str] = (about.family, "exported")
        self.class_names = about.class_names
        self.image_size = about.image_size
        self.canvas: Canvas = about.canvas
        self.model = nn.Module()
        """Empty; the weights are the file's."""
        self._run = run

    def batch(self, images: Sequence[Tensor], targets: Sequence[Objects] | None = None) -> Batch:
        """Resize to the file's own input size, on its canvas."""
        return make_batch(self, images, targets)

    def predict(self, batch: Batch) -> list[Detections]:
        """Detections in pixels of the batch's images."""
        outputs = self.outputs(self.inputs(batch))
        if any(output.is_floating_point() and bool(output.isnan().any()) for output in outputs):
            raise WorkError(f"{self.path}: its outputs are not finite (NaN); export it from intact weights")
        found = self.select(outputs)
        results: list[Detections] = []
        for row, (scale, (h, w)) in enumerate(zip(self._scales(batch), batch.sizes_hw, strict=True)):
            there = found.labels[row] >= 0
            boxes = found.boxes[row][there] / scale
            boxes = boxes.clamp_min(0).minimum(boxes.new_tensor([w, h, w, h]))
            results.append(Detections(boxes=boxes, scores=found.scores[row][there], labels=found.labels[row][there]))
        return results

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> list[Tensor]:
        """The file's outputs on inputs N×3×H×W of pixels in 0…1, as many at a time as it takes; autocast has no say."""
        with full_precision(inputs):  # torch would run a graph's own operations in half precision, boxes and all
            return self._outputs(self.normalised(inputs))

    def _outputs(self, inputs: Tensor) -> list[Tensor]:
        size = self.about.batch
        if size is None:
            return list(self._run(inputs.contiguous()))
        parts: list[Sequence[Tensor]] = []
        for part in inputs.split(size):
            whole = F.pad(part, (0, 0) * 3 + (0, size - len(part)))
            parts.append([output[: len(part)] for output in self._run(whole.contiguous())])
        return [torch.cat(output) for output in zip(*parts, strict=True)]

    def normalised(self, inputs: Tensor) -> Tensor:
        """Pixels as the file takes them."""
        if self.about.normalises:
            return inputs
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.about.mean, self.about.std))
        return (inputs - mean) / std

    def select(self, outputs: Sequence[Tensor]) -> Selected:
        """Detections of the file's outputs; where it gives candidates they are selected here."""
        if self.about.selects:
            boxes, scores, labels = outputs
            return Selected(boxes, scores, labels.long())
        scores, boxes = outputs
        return select(Candidates(scores, boxes, self.about.counts), self.about.selection, self.about.size_hw)

    def observe(self, batch: Batch, needs: frozenset[Need], targets: Sequence[Objects] | None = None) -> Observation:
        """Refused: a file has no inside."""
        raise self._refusal()

    def head_from(self, features: Sequence[Tensor], proposals: Sequence[Tensor] | None = None) -> Tensor:
        """Refused, as `observe`."""
        raise self._refusal()

    def native_state(self) -> dict[str, Tensor]:
        """Refused, as `observe`."""
        raise self._refusal()

    def inputs(self, batch: Batch) -> Tensor:
        """The images on the file's input, filled with the model's own colour.

        What does not fit is made smaller.
        """
        height, width = self.about.size_hw
        inputs = torch.tensor(self.about.fill).view(1, 3, 1, 1).repeat(len(batch.images), 1, height, width)
        for slot, image, (h, w), scale in zip(inputs, batch.images, batch.sizes_hw, self._scales(batch), strict=True):
            part = image[:, :h, :w]
            if scale < 1:
                size = (max(1, int(h * scale)), max(1, int(w * scale)))
                part = F.interpolate(part[None], size, mode="bilinear", antialias=True)[0]
            slot[:, : part.shape[1], : part.shape[2]] = part
        return inputs

    def _refusal(self) -> InputError:
        return InputError(f"{self.path}: an exported file gives detections alone; name the run that it came from")

    def _scales(self, batch: Batch) -> list[float]:
        height, width = self.about.size_hw
        return [min(1.0, height / h, width / w) for h, w in batch.sizes_hw]
