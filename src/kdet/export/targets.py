"""The targets by name, and files by their suffix."""

from pathlib import Path

from kdet.errors import InputError
from kdet.export.executorch_file import EXECUTORCH
from kdet.export.exported import ExportedDetector
from kdet.export.litert_file import LITERT
from kdet.export.onnx_file import ONNX
from kdet.export.openvino_file import OPENVINO
from kdet.export.pt2_file import PT2
from kdet.export.target import Target
from kdet.files import is_file

TARGETS: dict[str, Target] = {target.name: target for target in (ONNX, PT2, OPENVINO, EXECUTORCH, LITERT)}
"""Name in `--to` → target."""


def is_exported(path: Path) -> bool:
    """Whether a path is named like an exported file."""
    return any(path.suffix == target.suffix for target in TARGETS.values())


def open_exported(path: Path, *, in_fp32: bool = True) -> ExportedDetector:
    """Return an exported file as a detector.

    Args:
        path: the file.
        in_fp32: whether its toolkit computes in float32; else as it chooses on this processor.

    Raises:
        InputError: no such file, not one of `kdet export`, or its toolkit is missing.
    """
    if not is_file(path):
        raise InputError(f"{path}: no such file")
    target = next(target for target in TARGETS.values() if path.suffix == target.suffix)
    target.require()
    about, run = target.open(path, in_fp32)
    return ExportedDetector(path, about, run, "fp32" if in_fp32 else target.own_precision())
