"""One adapter per family of detectors; this room knows nothing of distillation."""

from kdet.detectors.foundation import foundation
from kdet.detectors.hooked import Given, HookedDetector
from kdet.detectors.inherit import Inherit, Inherited, inherit
from kdet.detectors.own_code import ALLOWED
from kdet.detectors.weights import StoredWeights, read_weights
from kdet.detectors.wrapping import wrap
from kdet.detectors.zoo import DETECTORS, FACTORY, build, classes_in, rebuild

__all__ = [
    "ALLOWED",
    "DETECTORS",
    "FACTORY",
    "Given",
    "HookedDetector",
    "Inherit",
    "Inherited",
    "StoredWeights",
    "build",
    "classes_in",
    "foundation",
    "inherit",
    "read_weights",
    "rebuild",
    "wrap",
]
