"""Detectors of transformers as files: several kinds fix the number of images, or assert what ONNX cannot say."""

from pathlib import Path

import pytest

from detr_fakes import every_type, tiny_detr
from export_fakes import batches, require, saved
from kdet.data import Shapes, ShapesSource
from kdet.errors import InputError
from kdet.export import TARGETS, about_export, compare, graph_of, open_exported
from kdet.study.release import Wish, export


def test_where_the_number_of_images_is_fixed_a_file_takes_one(tmp_path: Path) -> None:
    said: list[str] = []
    source = ShapesSource(Shapes(val_images=4, image_size=96), split="val")
    wish = Wish(to="pt2", seconds=0.05)
    model = saved(tmp_path, tiny_detr("rt_detr_v2"))
    export(model, tmp_path / "out", wish, val=source, train=None, say=said.append)
    assert any("for any number of images" in line and "one image at a time instead" in line for line in said)
    assert open_exported(tmp_path / "out" / "student.pt2").about.batch == 1


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
