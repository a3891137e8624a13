"""A detector → a file for the device, and the file → detections again."""

from kdet.export.about import About, about_export
from kdet.export.exported import ExportedDetector
from kdet.export.graph import Graph, graph_of
from kdet.export.int8 import quantise
from kdet.export.parity import Parity, compare
from kdet.export.target import Target
from kdet.export.targets import TARGETS, is_exported, open_exported

__all__ = [
    "TARGETS",
    "About",
    "ExportedDetector",
    "Graph",
    "Parity",
    "Target",
    "about_export",
    "compare",
    "graph_of",
    "is_exported",
    "open_exported",
    "quantise",
]
