"""Numbers that break in one of two processes, over gloo: both take the same way, and nothing of the batch remains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from process_cases import close, found_by_both, free_port, join, leave, recipe
from safetensors.torch import load_file
from train_cases import records, run

from kdet.errors import WorkError
from kdet.train import Recipe, step
from kdet.train.state.bad_batch import read
from kdet.types import Batch, Need, Observation

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Case:
    """What breaks, in a run of which two processes with an image each make four batches an epoch."""

    accumulate: int
    breaks: tuple[set[int], set[int]]
    """In each process: batches of the run, from 1."""
    refused: bool = False
    """The student's own loss raises; else its features hold NaN, and terms read them."""
    shard: bool = False
    allowed: int = 2


LEFT_OUT = {
    "the batch that ends a step": Case(2, (set(), {2})),
    "that batch, refused": Case(2, (set(), {2}), refused=True),
    "the batch before it, refused by the first": Case(2, ({3}, set()), refused=True),
    "both at once": Case(2, ({2}, {2}), refused=True),
    "one after the other": Case(2, ({1}, {2})),
    "the short step that ends an epoch": Case(3, (set(), {4}), refused=True),
    "divided, refused": Case(2, (set(), {3, 4}), refused=True, shard=True),
}
TOO_MANY = {
    "too many": Case(2, (set(), {3, 4}), refused=True, allowed=1),
    "too many, divided": Case(2, (set(), {3, 4}), allowed=1, shard=True),
}


def recipe_of(case: Case, folder: Path, **more: Any) -> Recipe:
    settings: dict[str, Any] = {"accumulate": case.accumulate, "skip_nonfinite": case.allowed, "shard": case.shard}
    return recipe(folder, **(settings | {"epochs": 2, "max_steps": 3, "lr_schedule": "constant"} | more))


def break_student(patch: pytest.MonkeyPatch, case: Case, ranks: Sequence[int], met: list[int]) -> None:
    """Batches of these processes break, also when they are looked at again; `met` gets their images."""
    at = set[int]().union(*(case.breaks[rank] for rank in ranks))
    original, calls = step._forward, 0

    def forward(run: Any, batch: Batch, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        vars(run.student).pop("observe", None)
        if calls in at:
            met.extend(batch.image_ids)
            run.student.observe = partial(broken, run.student.observe, case.refused)
        return original(run, batch, **options)

    patch.setattr(step, "_forward", forward)


def broken(
    observe: Callable[..., Observation], refused: bool, batch: Batch, needs: frozenset[Need], *targets: Any
) -> Observation:
    seen = observe(batch, needs, *targets)
    if refused and Need.LOSSES in needs:
        raise ValueError("boxes that are no numbers")
    return replace(seen, features=[level * torch.nan for level in seen.features or []])


def process(rank: int, folder: Path, port: int, recipes: dict[str, Recipe]) -> None:
    join(rank, port)
    found: dict[str, Any] = {}
    for name, case in (LEFT_OUT | TOO_MANY).items():
        met: list[int] = []
        said = ""
        with pytest.MonkeyPatch.context() as patch:
            break_student(patch, case, [rank], met)
            try:
                run(recipes[name], folder / name / "run")
            except WorkError as error:
                said = str(error)
        found[name] = {"met": met, "said": said}
    leave(rank, folder, found)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(runs: Path) -> list[dict[str, Any]]:
    """What the two processes found."""
    recipes = {name: recipe_of(case, runs / name) for name, case in (LEFT_OUT | TOO_MANY).items()}
    return found_by_both(process, runs, free_port(), recipes)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_run_is_that_of_one_process_which_leaves_out_the_same(
    two: list[dict[str, Any]], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case = LEFT_OUT[name]
    assert [found[name]["said"] for found in two] == ["", ""]
    break_student(monkeypatch, case, [0, 1], [])
    run(recipe_of(case, tmp_path, batch_size=2, shard=False), tmp_path / "run")
    ours, theirs = (load_file(path / "run" / "student-last.safetensors") for path in (runs / name, tmp_path))
    for key, tensor in theirs.items():
        close(ours[key], tensor, key)
    notes, wanted = (
        [record["text"] for record in records(path / "run", "note") if "is left out" in record["text"]]
        for path in (runs / name, tmp_path)
    )
    assert [note[:20] for note in notes] == [note[:20] for note in wanted]
    first = next(found[name]["met"] for found in two if found[name]["met"])
    assert f"on images {first[:1]}" in notes[0] and ("task/refused = nan" in notes[0]) == case.refused


@pytest.mark.parametrize("name", TOO_MANY)
def test_too_many_end_both_with_the_line_of_the_one_at_fault(two: list[dict[str, Any]], runs: Path, name: str) -> None:
    said = [found[name]["said"] for found in two]
    assert said[0] == said[1] and "\n" not in said[0]
    assert f"on images {two[1][name]['met'][1:]}" in said[0]
    assert "student features, stride 8: nan" in said[0]
    kept = runs / name / "run" / "bad-batch-1"
    assert f"--replay {kept}" in said[0] and read(kept).batch.image_ids == two[1][name]["met"][1:]
    assert not (runs / name / "run" / "bad-batch-0").exists()
    assert "structural = nan" in said[0] and ("task/refused = nan" in said[0]) == TOO_MANY[name].refused
