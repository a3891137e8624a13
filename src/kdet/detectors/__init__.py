"""One adapter per family of detectors; this room knows nothing of distillation."""

from kdet.detectors.backbones.foundation import foundation
from kdet.detectors.inherit import Inherit, Inherited, inherit, inherit_frozen_norms
from kdet.detectors.modules.hooked import Given, HookedDetector
from kdet.detectors.modules.own_code import ALLOWED
from kdet.detectors.parts import backbone_parameters, uses_nesterov, usual_backbone_lr
from kdet.detectors.torchvision.models import backbone_defaults
from kdet.detectors.weights import StoredWeights, read_weights
from kdet.detectors.wrapping import BARE, wrap
from kdet.detectors.zoo import DETECTORS, FACTORY, build, classes_in, rebuild

__all__ = [
    "ALLOWED",
    "BARE",
    "DETECTORS",
    "FACTORY",
    "Given",
    "HookedDetector",
    "Inherit",
    "Inherited",
    "StoredWeights",
    "backbone_defaults",
    "backbone_parameters",
    "build",
    "classes_in",
    "foundation",
    "inherit",
    "inherit_frozen_norms",
    "read_weights",
    "rebuild",
    "uses_nesterov",
    "usual_backbone_lr",
    "wrap",
]
