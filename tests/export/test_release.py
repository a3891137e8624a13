"""`kdet export` as a whole: checked on images, within its AP, a card, and nothing left where it fails."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export_fakes import require, run_that_finds, saved
from fakes import tiny
from kdet.data import Shapes, ShapesSource
from kdet.errors import InputError, WorkError
from kdet.export import TARGETS, open_exported
from kdet.report import card
from kdet.workflows.export import Wish, canvas_for, export
from kdet.workflows.models import open_model
from kdet.workflows.speed import measure

SHAPES = ShapesSource(Shapes(val_images=6, image_size=96), split="val")
QUICK = Wish(to="pt2", images=4, seconds=0.05)


def _export(model: Path, out: Path, wish: Wish = QUICK, **data: Any) -> dict[str, Any]:
    lines: list[str] = []
    sources = {"val": SHAPES, "train": SHAPES} | data
    return {**export(model, out, wish, say=lines.append, **sources), "said": lines}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a few steps."""
    return run_that_finds(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[dict[str, Any], Path]:
    """What an export of it on its own data reports, and where it lies; as where a toolkit by itself rounds to bf16."""
    out = run.parent / "exported"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "pt2", replace(TARGETS["pt2"], own_precision=lambda: "bf16"))
        return _export(run, out, replace(QUICK, license="CC-BY-4.0"), val=None, train=None), out


@pytest.mark.long
def test_a_run_is_exported_on_its_own_data_with_a_card(exported):
    result, out = exported
    assert sorted(path.name for path in out.iterdir()) == [
        "student.pt2",
        "student.pt2.json",
        "student.pt2.md",
    ]
    assert result["AP"]["images"] == 4
    assert abs(result["AP"]["drop"]) < 0.002
    assert [row["model"] for row in result["speed"]["models"]] == ["finding", "student.pt2"]
    stored = json.loads((out / "student.pt2.json").read_text())
    assert stored["parity"]["detections"] > 0
    card = (out / "student.pt2.md").read_text()
    for words in ("license: CC-BY-4.0", "circle, square, triangle", "labels` N×D", "epochs: 2", "random numbers"):
        assert words in card
    assert str(out.parent) not in card.partition("Made by")[0], "nobody else has this machine's folders"


def test_the_card_says_what_a_resume_took_anew(exported, run, tmp_path):
    checked = exported[1] / "student.pt2.json"
    assert "resumed" not in card(checked, run, None)
    shutil.copytree(run, tmp_path / "run")
    change = {"step": 2, "key": "train.lr", "from": 0.001, "to": 0.0001}
    (tmp_path / "run" / "changes.json").write_text(json.dumps([change]))
    text = card(checked, tmp_path / "run", None)
    assert "- from step 2 on train.lr is 0.0001; it was 0.001\n" in text and text.count("epochs: 2") == 1


@pytest.mark.parametrize(
    ("sizes_hw", "image_size", "canvas", "input_hw"),
    [
        ([(240, 320), (240, 320)], 256, "pad", (192, 256)),
        ([(240, 320), (320, 240)], 256, "pad", (256, 256)),
        ([(480, 640), (360, 640)], (800, 1333), "pad", (800, 1344)),
        ([(240, 320), (240, 320)], 256, "letterbox", (256, 256)),
        ([(240, 320), (240, 320)], 256, "stretch", (256, 256)),
        ([(240, 320), (240, 320)], 300, "letterbox", (320, 320)),
    ],
)
def test_the_input_is_the_models_square_or_no_larger_than_the_images_need(sizes_hw, image_size, canvas, input_hw):
    assert canvas_for(np.array(sizes_hw, np.int32), image_size, canvas) == input_hw


def test_a_weights_file_needs_data(tmp_path):
    model = saved(tmp_path)
    with pytest.raises(InputError, match="add --data"):
        _export(model, tmp_path / "out", val=None, train=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_file_that_loses_more_ap_than_it_may_is_not_kept(tmp_path):
    with pytest.raises(WorkError, match=r"AP .* is allowed; it was not kept"):
        _export(saved(tmp_path), tmp_path / "out", replace(QUICK, max_drop=-0.5))
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "student.pt2").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        _export(saved(tmp_path), tmp_path / "out")
    assert (tmp_path / "out" / "student.pt2").read_text() == "mine"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (replace(QUICK, to="tensorrt"), "expected one of onnx, pt2"),
        (replace(QUICK, int8=True), "writes ONNX"),
        (replace(QUICK, images=0), "at least 1"),
        (replace(QUICK, size_hw=(90, 96)), "multiples of 32"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_made(tmp_path, wish, words):
    with pytest.raises(InputError, match=words):
        _export(saved(tmp_path), tmp_path / "out", wish)
    assert not (tmp_path / "out" / "student.pt2").exists()


@pytest.mark.long
def test_where_the_number_of_images_is_fixed_a_file_takes_one(tmp_path, monkeypatch):
    pt2 = TARGETS["pt2"]

    def write(graph, about, path):
        if about.batch != 1:
            raise InputError("it fixes the number of images")
        pt2.write(graph, about, path)

    monkeypatch.setitem(TARGETS, "pt2", replace(pt2, write=write))
    said = _export(saved(tmp_path), tmp_path / "out")["said"]
    assert "it fixes the number of images; one image at a time instead" in said
    assert open_exported(tmp_path / "out" / "student.pt2").about.batch == 1
    with pytest.raises(InputError, match="it fixes"):
        _export(saved(tmp_path), tmp_path / "again", replace(QUICK, batch=2))


@pytest.mark.long
def test_eight_bits_keep_what_is_found_and_are_smaller(tmp_path):
    require("onnx")
    detector = tiny("retinanet", width=0.5)
    model = saved(tmp_path, detector)
    wish = replace(QUICK, to="onnx", int8=True, calibration=4, batch=1)
    result = _export(model, tmp_path / "out", wish)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        f"student-int8.onnx{end}" for end in ("", ".json", ".md")
    ]
    exported = open_exported(tmp_path / "out" / "student-int8.onnx")
    assert (
        exported.about.precision == exported.precision == result["AP"]["precision"] == result["own_precision"] == "int8"
    )
    assert [row["precision"] for row in result["speed"]["models"]] == ["fp32", "int8"]
    assert result["bytes"] < 0.6 * model.stat().st_size


@pytest.mark.long
def test_an_exported_file_is_evaluated_and_timed_like_a_model(run, exported, tmp_path):
    path = exported[1] / "student.pt2"
    assert open_model(path).class_names == open_model(run).class_names
    first, second = measure([run, path], seconds=0.05, memory=False)
    assert first.parameters
    assert second.parameters is None
    assert second.latency_ms > 0
    assert first.precision == second.precision == "fp32" and second.ap is not None
    with pytest.raises(InputError, match="exported file already"):
        _export(path, tmp_path / "again")


@pytest.mark.long
def test_what_was_measured_and_what_a_toolkit_does_by_itself_are_told_apart(exported, monkeypatch):
    result, out = exported
    assert result["own_precision"] == "bf16" and result["AP"]["precision"] == "fp32"
    assert {row["precision"] for row in result["speed"]["models"]} == {"fp32"}
    assert any("computes in bf16 on this processor" in line for line in result["said"])
    card = (out / "student.pt2.md").read_text()
    assert "in fp32.\n" in card and "Left to itself, pt2 computes in bf16" in card
    monkeypatch.setitem(TARGETS, "pt2", replace(TARGETS["pt2"], own_precision=lambda: "bf16"))
    left, asked = (measure([out / "student.pt2"], seconds=0.01, memory=False, in_fp32=way)[0] for way in (False, True))
    assert left.precision == "bf16" and left.ap is None
    assert asked.precision == "fp32" and asked.ap == result["AP"]["file"]
