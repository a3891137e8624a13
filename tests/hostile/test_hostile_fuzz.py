"""Random input of every kind: it is read, or refused by one line, and in time; the long search is marked slow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coco_cases
import pytest
import torch
import voc_cases
import yaml
import yolo_cases
from checkpoint_cases import torch_bytes
from fuzz_cases import VALUES, YAML_SIGNS, mutated, recipes
from hostile_cases import put, read_everything, read_or_refuse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_cases import encoded
from run_folder_cases import STEP, run_folder, step
from safetensors.torch import save

from fakes import tiny_recipe
from kdet.data import read_image
from kdet.detectors import read_weights
from kdet.report import read_run
from kdet.train import read_recipe
from kdet.train.teaching.teachers import make_terms

FEW, MANY = 40, 3000
TENSORS = {"weight": torch.ones(3, 3), "bias": torch.zeros(3)}


def yaml_of(content: Any) -> str:
    """As a file; what YAML cannot write is left to it."""
    return yaml.safe_dump(content, sort_keys=False)


def recipe(folder: Path, text: str | bytes) -> None:
    """As the commands read it, before anything is built."""
    found = read_recipe(put(folder / "r.yaml", text))
    make_terms(found.distill)


def data_in(format: str) -> Callable[[Path, bytes], object]:
    """A good data set with this file in it."""

    def read(folder: Path, content: bytes) -> object:
        made = {"coco": coco_cases.data_set, "voc": voc_cases.data_set, "yolo": yolo_cases.data_set}
        if not (folder / format).exists():
            (folder / format).mkdir()
            made[format](folder / format, b"")
        file = {"coco": Path("a.json"), "voc": voc_cases.FILE, "yolo": Path("data.yaml")}[format]
        path = put(folder / format / file, content)
        return read_everything(format, folder / format if format == "voc" else path)

    return read


def labels(folder: Path, content: bytes) -> object:
    """A good YOLO data set with these labels."""
    if not (folder / "labels").exists():
        yolo_cases.data_set(folder)
    put(folder / yolo_cases.LABEL, content)
    return read_everything("yolo", folder / "data.yaml")


def log(folder: Path, content: bytes) -> object:
    """A good run folder with this log."""
    if not (folder / "log.jsonl").exists():
        run_folder(folder)
    put(folder / "log.jsonl", content)
    return read_run(folder)


def image(folder: Path, content: bytes) -> object:
    return read_image(put(folder / "a.img", content))


def weights(suffix: str) -> Callable[[Path, bytes], object]:
    return lambda folder, content: read_weights(put(folder / f"a.{suffix}", content))


INPUTS: dict[str, tuple[Callable[[Path, Any], object], st.SearchStrategy[Any]]] = {
    "recipe, any signs": (recipe, YAML_SIGNS),
    "recipe, any values": (recipe, VALUES.map(yaml_of)),
    "recipe, wrong values": (recipe, recipes(tiny_recipe()).map(yaml_of)),
    "recipe, bytes": (recipe, mutated(yaml_of(tiny_recipe()).encode())),
    "COCO": (data_in("coco"), mutated(coco_cases.GOOD.encode())),
    "VOC": (data_in("voc"), mutated(voc_cases.GOOD.encode())),
    "data.yaml": (data_in("yolo"), mutated(yolo_cases.GOOD.encode())),
    "labels": (labels, mutated(yolo_cases.LABELS.encode())),
    "JPEG": (image, mutated(encoded("JPEG", side=24))),
    "PNG": (image, mutated(encoded("PNG", side=12))),
    "GIF": (image, mutated(encoded("GIF", "P", side=12))),
    "BMP": (image, mutated(encoded("BMP", side=8))),
    "TIFF": (image, mutated(encoded("TIFF", side=12))),
    "WebP": (image, mutated(encoded("WEBP", side=24))),
    "safetensors": (weights("safetensors"), mutated(save(TENSORS, metadata={"kdet": '{"build": null}'}))),
    "torch file": (weights("pt"), mutated(torch_bytes(TENSORS))),
    "torch file of old": (weights("pth"), mutated(torch_bytes(TENSORS, _use_new_zipfile_serialization=False))),
    "log": (log, mutated(step().encode() * 2)),
    "log of values": (
        log,
        st.fixed_dictionaries(dict.fromkeys(STEP, VALUES)).map(lambda v: step(**plain(v)).encode()),
    ),
}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Without dates, which JSON has not."""
    return {key: _undated(value) for key, value in values.items()}


def _undated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _undated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_undated(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def search(name: str, folder: Path, examples: int) -> None:
    """So many inputs of a kind."""
    act, inputs = INPUTS[name]

    @settings(
        max_examples=examples,
        database=None,
        derandomize=examples == FEW,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(inputs)
    def one(content: Any) -> None:
        read_or_refuse(lambda: act(folder, content))

    one()


@pytest.mark.parametrize("name", INPUTS)
def test_anything_is_read_or_refused(tmp_path: Path, name: str) -> None:
    search(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_anything_is_read_or_refused_long(tmp_path: Path, name: str) -> None:
    search(name, tmp_path, MANY)
