"""The handful of types that cross a layer.

Legend for tensor shapes, here and everywhere: N images, C channels, H W height and width, A anchors or
points of all levels, Q queries, K classes (columns of the model's own class layer), M objects of one image,
P proposals of the whole batch. Boxes are x1 y1 x2 y2 in pixels of the network input, float32.
A label is an index into the `class_names` of whoever speaks: `class_names[label]` is its name.
"""

from kdet.types.batch import Batch, Canvas, Detections, ImageSize, Sample, SizeHW, Target
from kdet.types.detector import Detector, DividedHead, Phased, TakesQueries
from kdet.types.loss_report import GradientRatio, LossReport
from kdet.types.observation import Activation, Anchor, HeadFeatures, Level, Need, Observation, QueryDecoder

__all__ = [
    "Activation",
    "Anchor",
    "Batch",
    "Canvas",
    "Detections",
    "Detector",
    "DividedHead",
    "GradientRatio",
    "HeadFeatures",
    "ImageSize",
    "Level",
    "LossReport",
    "Need",
    "Observation",
    "Phased",
    "QueryDecoder",
    "Sample",
    "SizeHW",
    "TakesQueries",
    "Target",
]
