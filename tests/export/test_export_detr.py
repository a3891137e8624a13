"""Detectors of transformers as files: several kinds fix the number of images, or assert what ONNX cannot say."""

from pathlib import Path

import pytest

from detr_fakes import every_type, tiny_detr
from export_fakes import batches, require
from kdet.errors import InputError
from kdet.export import TARGETS, about_export, compare, graph_of, open_exported


@pytest.mark.slow
@every_type
@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_every_type_is_written_down(kind: str, to: str, tmp_path: Path) -> None:
    require(to)
    detector, target = tiny_detr(kind), TARGETS[to]
    path = tmp_path / f"student{target.suffix}"
    for batch in (None, 1):
        try:
            about = about_export(detector, size_hw=None, batch=batch, normalises=True, selects=True)
            target.write(*graph_of(detector, about), path)
            break
        except InputError as problem:
            assert batch is None, problem
    parity = compare(detector, open_exported(path), batches())
    assert parity.good, str(parity)
