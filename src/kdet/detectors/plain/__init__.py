"""Bare detectors from plain arguments.

The files of this folder import torch, torchvision, safetensors and each other: kdet writes a copy of it beside a
student's weights, so that the student loads where kdet is not installed:
`from student_model import load_student; model, class_names = load_student("student.safetensors")`.
"""

from .atss import ATSS
from .backbones import BACKBONES, NORMS
from .cascade import CascadeHeads, CascadeRCNN
from .gfl import GFL
from .library_bodies import TIMM
from .models import build_model
from .stored import build_any, load_student

__all__ = [
    "ATSS",
    "BACKBONES",
    "GFL",
    "NORMS",
    "TIMM",
    "CascadeHeads",
    "CascadeRCNN",
    "build_any",
    "build_model",
    "load_student",
]
