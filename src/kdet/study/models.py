"""Any model that a user names: a run folder, a weights file, or an exported file."""

from pathlib import Path

from kdet.export import is_exported, open_exported
from kdet.train import load_detector
from kdet.types import Detector


def open_model(path: Path) -> Detector:
    """A detector that predicts.

    Raises:
        InputError: none of them, damaged, or an exported file whose toolkit is missing.
    """
    return open_exported(path) if is_exported(path) else load_detector(path)
