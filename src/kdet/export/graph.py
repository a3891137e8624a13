"""A detector as one module of fixed shapes, with pre- and post-processing or without."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdet.detectors.exportable import Exportable
from kdet.export.about import About
from kdet.ops.selection import select
from kdet.types import Detector


class Graph(nn.Module):
    """Pixels N×3×H×W → boxes N×D×4, scores N×D, labels N×D, or → scores N×A×K and boxes N×A×4 (or N×A×K×4)."""

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Exportable, about: About) -> None:
        super().__init__()
        self._detector = detector
        self.model = detector.model  # registers the weights
        self._about = about
        self.register_buffer("mean", torch.tensor(about.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(about.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self._about.normalises:
            images = (images - self.mean) / self.std
        found = self._detector.candidates(images)
        if not self._about.selects:
            return found.scores, found.boxes
        return tuple(select(found, self._about.selection, self._about.size_hw))

    def example(self, batch: int) -> Tensor:
        """An input of this graph."""
        return torch.rand(batch, 3, *self._about.size_hw, generator=torch.Generator().manual_seed(0))


def graph_of(detector: Detector, about: About) -> tuple[Graph, About]:
    """Copy the detector to the CPU, in evaluation mode, as a graph; and its metadata with the levels' counts."""
    copied = copy.deepcopy(detector)  # tracing leaves its placeholders in anchors that the model keeps
    assert isinstance(copied, Exportable), "checked with the metadata"
    copied.model.cpu().float().to(memory_format=torch.contiguous_format)  # pyright: ignore
    graph = Graph(copied, about).eval()
    with torch.no_grad():
        counts = copied.candidates(graph.example(1)).counts
    return graph, replace(about, counts=counts)
