"""One adapter per family of detectors; this room knows nothing of distillation."""

from kdet.detectors.weights import StoredWeights, classes_in, read_weights
from kdet.detectors.zoo import DETECTORS, build, rebuild, wrap

__all__ = ["DETECTORS", "StoredWeights", "build", "classes_in", "read_weights", "rebuild", "wrap"]
