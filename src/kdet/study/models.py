"""Any model that a user names: a run folder, a weights file, or an exported file."""

from contextlib import suppress
from pathlib import Path

import torch

from kdet.errors import InputError
from kdet.export import is_exported, open_exported
from kdet.train import load_detector, read_recipe
from kdet.train.run_folder import RECIPE
from kdet.types import Detector

_AT_A_TIME = 8


def open_model(path: Path) -> Detector:
    """A detector that predicts.

    Raises:
        InputError: none of them, damaged, or an exported file whose toolkit is missing.
    """
    return open_exported(path) if is_exported(path) else load_detector(path)


def open_to_run(path: Path, device: str | None = None) -> tuple[Detector, str]:
    """The same, and the device that it stands on: the GPU where there is one; the toolkits of files have the processor.

    Args:
        path: see `open_model`.
        device: "cpu" or "cuda"; None = the GPU where there is one.

    Raises:
        InputError: as `open_model`, or no GPU where one is wanted.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here; leave it out, or say cpu")
    detector = open_model(path)
    if is_exported(path):
        return detector, "cpu"
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    detector.model.to(device)
    return detector, device


def images_at_a_time(path: Path) -> int:
    """The batch size with which a run looked at its AP: images pad each other, and some models see padding; else 8."""
    recipe = (path if path.is_dir() else path.parent) / RECIPE
    with suppress(InputError):  # of another version, or broken: what it says is not needed
        return read_recipe(recipe).train.batch_size
    return _AT_A_TIME
