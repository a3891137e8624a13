"""Data sets whose boxes are a model's: what `kdet label` writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdet.data.formats.table import open_source, recognise
from kdet.data.source import Source
from kdet.files import is_file

RECORD = "label.json"
"""File in the folder, beside images and annotations: which model, what it was asked, and from which scores on."""


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say whose boxes a data set has."""
    (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def is_labelled_by_a_model(folder: Path) -> bool:
    """Whether a folder is one of these."""
    return is_file(folder / RECORD)


def open_model_labels(folder: Path) -> Source:
    """Open the images of such a folder, with boxes and scores.

    Raises:
        InputError: what `kdet label` wrote is not there any more, or damaged.
    """
    return open_source(recognise(folder), folder, split="train")
