"""Weights files: nothing in them is ever run, and whatever is wrong with them is one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_cases import ABOUT, BUILD, SAFETENSORS, TORCH, TRANSFORMERS, with_header
from hostile_cases import assert_refused, put
from safetensors import safe_open
from torch import Tensor

from fakes import same_state, state_of, tiny
from kdet.detectors import read_weights
from kdet.errors import InputError
from kdet.train import load_detector
from kdet.train.state.run_folder import save_student


@pytest.mark.parametrize("suffix", ["pt", "pth"])
@pytest.mark.parametrize("name", TORCH)
def test_torch_file(tmp_path: Path, name: str, suffix: str) -> None:
    make, words = TORCH[name]
    sign = tmp_path / "it-ran"
    path = put(tmp_path / f"a.{suffix}", make(sign))
    assert_refused(lambda: read_weights(path), tmp_path, words)
    assert not sign.exists()


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_file(tmp_path: Path, name: str) -> None:
    content, words = SAFETENSORS[name]
    path = put(tmp_path / "a.safetensors", content)
    assert_refused(lambda: read_weights(path), tmp_path, words)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a student and what the header of its file says."""
    detector = tiny(image_size=64)
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_student(detector, detector.native_state(), path)
    load_detector(path)
    with safe_open(path, framework="pt") as handle:
        return read_weights(path).state, json.loads(handle.metadata()["kdet"])


@pytest.mark.parametrize("name", [*ABOUT, *BUILD])
def test_header_of_a_student(student: tuple[dict[str, Tensor], dict[str, Any]], tmp_path: Path, name: str) -> None:
    state, about = student
    change, words = (ABOUT | BUILD)[name]
    path = with_header(tmp_path / "a.safetensors", state, change(about))
    assert_refused(
        lambda: load_detector(path), tmp_path, ("a.safetensors", *([words] if isinstance(words, str) else words))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_header_of_a_detector_of_transformers(
    student: tuple[dict[str, Tensor], dict[str, Any]], tmp_path: Path, name: str
) -> None:
    pytest.importorskip("transformers")
    state, about = student
    change, words = TRANSFORMERS[name]
    path = with_header(tmp_path / "a.safetensors", state, change(about))
    assert_refused(lambda: load_detector(path), tmp_path, ("a.safetensors", str(words)))


@pytest.mark.parametrize("change", ["shape", "missing", "more", "kind"])
def test_tensors_of_another_detector(
    student: tuple[dict[str, Tensor], dict[str, Any]], tmp_path: Path, change: str
) -> None:
    state, about = student
    key = "backbone.body.conv1.weight"
    other = dict(state)
    match change:
        case "shape":
            other[key] = torch.ones(1)
        case "missing":
            del other[key]
        case "more":
            other["../../x"] = torch.ones(1)
        case _:
            other[key] = state[key].to(torch.complex64)
    path = with_header(tmp_path / "a.safetensors", other, about)
    words = "no plain array" if change == "kind" else "made for another architecture"
    assert_refused(lambda: load_detector(path), tmp_path, words)


def test_weights_in_other_precision_are_converted(
    student: tuple[dict[str, Tensor], dict[str, Any]], tmp_path: Path
) -> None:
    state, about = student
    doubled = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    detector = load_detector(with_header(tmp_path / "a.safetensors", doubled, about))
    assert same_state(state, state_of(detector.model))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    put(tmp_path / "recipe.yaml", "data: 1")
    with pytest.raises(InputError, match=r"the run has no student.safetensors yet"):
        load_detector(tmp_path)
    (tmp_path / "student.safetensors").mkdir()
    assert_refused(lambda: load_detector(tmp_path), tmp_path, "no such weights file")
