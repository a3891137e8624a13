"""Any model that a user names: a run folder, a weights file, or an exported file."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from kdet.errors import InputError
from kdet.export import ExportedDetector, is_exported, open_exported
from kdet.train import load_detector, read_recipe
from kdet.train.state.run_folder import RECIPE
from kdet.types import Detector

_AT_A_TIME = 8


def open_model(path: Path, *, in_fp32: bool = True) -> Detector:
    """Open a detector that predicts.

    Args:
        path: a run folder, a weights file or an exported file.
        in_fp32: whether the toolkit of an exported file computes in float32; else as it chooses.

    Raises:
        InputError: none of them, damaged, or an exported file whose toolkit is missing.
    """
    return open_exported(path, in_fp32=in_fp32) if is_exported(path) else load_detector(path)


def open_to_run(path: Path, device: str | None = None, *, in_fp32: bool = True) -> tuple[Detector, str]:
    """Open a detector on its device, the GPU where there is one; the toolkits of files have the processor.

    Args:
        path: see `open_model`.
        device: "cpu" or "cuda"; None = the GPU where there is one.
        in_fp32: see `open_model`.

    Raises:
        InputError: as `open_model`, or no GPU where one is wanted.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here; leave it out, or say cpu")
    detector = open_model(path, in_fp32=in_fp32)
    if is_exported(path):
        return detector, "cpu"
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    detector.model.to(device)
    return detector, device


def images_at_a_time(path: Path) -> int:
    """Return the batch size of a run's evaluation, else 8: images pad each other, and some models see padding."""
    recipe = (path if path.is_dir() else path.parent) / RECIPE
    with suppress(InputError):  # of another version, or broken: what it says is not needed
        return read_recipe(recipe).train.batch_size
    return _AT_A_TIME


def precision_of(detector: Detector, device: str) -> str:
    """Name the precision of a detector of `open_to_run`: fp32, bf16, fp16, int8, or tf32 for convolutions of a GPU."""
    if isinstance(detector, ExportedDetector):
        return detector.precision
    cudnn: Any = torch.backends.cudnn
    rounds = device == "cuda" and torch.cuda.is_tf32_supported() and cudnn.conv.fp32_precision == "tf32"
    return "tf32" if rounds else "fp32"
