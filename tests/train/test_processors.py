"""`train.workers: auto`: nobody beside a CPU that trains, up to four beside a GPU, no more than a container may use."""

import os
from pathlib import Path

import pytest

from fakes import tiny_recipe
from kdet.train import Recipe
from kdet.train.processes import processors
from kdet.train.processes.processors import loaders, usable
from train.train_cases import records, run


@pytest.mark.parametrize(
    ("processors_here", "processes", "wanted"),
    [(1, 1, 1), (2, 1, 1), (3, 1, 2), (16, 1, 4), (16, 8, 1), (4, 8, 1), (64, 4, 4)],
)
def test_beside_a_gpu_each_training_process_has_its_own(
    monkeypatch: pytest.MonkeyPatch, processors_here: int, processes: int, wanted: int
) -> None:
    monkeypatch.setattr(processors, "usable", lambda: processors_here)
    assert loaders("auto", on_gpu=True, processes=processes) == wanted
    assert loaders("auto", on_gpu=False, processes=processes) == 0
    assert loaders(7, on_gpu=True, processes=processes) == loaders(7, on_gpu=False, processes=processes) == 7


@pytest.mark.parametrize(
    ("file", "content", "most"),
    [
        ("cpu.max", "200000 100000\n", 2),
        ("cpu.max", "50000 100000\n", 1),
        ("cpu.max", "350000 100000\n", 3),
        ("cpu.max", "max 100000\n", 999),
        ("cpu/cpu.cfs_quota_us", "300000\n", 3),
        ("cpu/cpu.cfs_quota_us", "-1\n", 999),
    ],
)
def test_a_containers_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str, most: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / file).write_text(content)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(999)), raising=False)
    assert usable(tmp_path) == most
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert usable(tmp_path) == 1
    assert usable(tmp_path / "no control groups") == 1


def test_auto_is_what_a_recipe_takes_and_comes_to_none_on_the_cpu(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(tiny_recipe(train={"epochs": 1, "max_steps": 1}))
    assert recipe.train.workers == "auto"
    run(recipe, tmp_path / "run")
    assert not any("train.workers" in note["text"] for note in records(tmp_path / "run", "note")), "none on the CPU"
