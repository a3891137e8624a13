"""Runs on a GPU: each precision, states, the cache, NCCL, and one line where there are more processes than GPUs."""

import json
import math
from pathlib import Path

import pytest
import torch
from process_cases import close, torchrun
from safetensors.torch import load_file
from test_resume import killed
from train_cases import distilled, records, run

from kdet.data import Augmentation
from kdet.errors import InputError
from kdet.train.processes.engine import Engine

on_gpu = pytest.mark.gpu
STUDENT = "student-last.safetensors"
SMOOTH = {"optimizer": "sgd", "lr": 0.01, "precision": "fp32"}
"""Steps proportional to the gradient: sums come in any order on a GPU, and Adam would make steps of the rounding."""


def weights_are_close(one: Path, other: Path) -> None:
    ours, theirs = load_file(one / STUDENT), load_file(other / STUDENT)
    for name, value in theirs.items():
        close(ours[name].float(), value.float(), name)


@on_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed", "fp16-mixed"])
def test_each_precision_distils(precision: str, tmp_path: Path) -> None:
    outcome = run(distilled(tmp_path, train={"precision": precision}), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["device"] == torch.cuda.get_device_name()
    steps = records(tmp_path / "run", "step")
    assert all(math.isfinite(value) and value > 0 for step in steps for value in step["parts"].values())
    assert 0 <= outcome.metrics["AP"] <= 1


@on_gpu
def test_two_steps_and_two_are_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = distilled(tmp_path, train=SMOOTH | {"ema": 0.9})
    run(recipe, tmp_path / "whole")
    killed(recipe, tmp_path / "halves", monkeypatch, 3)
    run(recipe, tmp_path / "halves", resume=True)
    weights_are_close(tmp_path / "halves", tmp_path / "whole")


@on_gpu
def test_a_kept_answer_is_the_teachers(tmp_path: Path) -> None:
    recipe = distilled(tmp_path, train=SMOOTH)
    kept = recipe.teachers[0].model_copy(update={"cache": tmp_path / "cache"})
    flips = recipe.data.model_copy(update={"augment": Augmentation(flip=0.5)})
    recipe = recipe.model_copy(update={"data": flips})
    run(recipe, tmp_path / "asked-on-flips")
    for name in ("filling", "filled"):
        run(recipe.model_copy(update={"teacher": kept}), tmp_path / name)
        weights_are_close(tmp_path / name, tmp_path / "asked-on-flips")


@on_gpu
def test_torchrun_with_one_process_is_a_plain_run(tmp_path: Path) -> None:
    """NCCL and DDP, as far as one GPU goes."""
    recipe = distilled(tmp_path, train=SMOOTH)
    status, said = torchrun(recipe, tmp_path, processes=1)
    assert status == 0, said
    run(recipe, tmp_path / "plain")
    weights_are_close(tmp_path / "run", tmp_path / "plain")


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="needs a machine with one GPU")
def test_torchrun_with_two_processes_on_one_gpu_ends_with_a_line(tmp_path: Path) -> None:
    status, said = torchrun(distilled(tmp_path), tmp_path)
    assert status != 0
    assert "2 processes were started on a machine with 1 GPU; start one for each (--nproc-per-node 1)" in said


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(InputError, match=r"4 processes .* 2 GPUs; start one for each \(--nproc-per-node 2\), or hide"):
        Engine()
