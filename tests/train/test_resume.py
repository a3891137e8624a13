"""Promise 2: resume is exact, a kill loses no file, and a run folder is never overwritten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_cases import distilled, recipe_of, records, run

from kdet.errors import InputError, WorkError
from kdet.train import Recipe, loop
from kdet.train.state import checkpoint
from kdet.train.state.checkpoint import Counters
from suites import quick


class Killed(BaseException):
    """What a kill looks like from inside."""


def killed(recipe: Recipe, folder: Path, patch: pytest.MonkeyPatch, after_steps: int) -> None:
    """A run that dies right after an optimizer step, or right after a save where that step ends an epoch."""
    original: Callable[..., Any] = loop.take_step
    taken = 0

    def step(*arguments: Any) -> Any:
        nonlocal taken
        if taken == after_steps:
            raise Killed
        taken += 1
        return original(*arguments)

    with patch.context() as context:
        context.setattr(loop, "take_step", step)
        with pytest.raises(Killed):
            run(recipe, folder)


def state(folder: Path) -> dict[str, Any]:
    """Everything that a finished run holds, as tensors."""
    found: dict[str, Any] = {}
    for name in ("trainables", "average"):
        path = folder / "last" / f"{name}.safetensors"
        if path.exists():
            found |= {f"{name}.{key}": value for key, value in load_file(path).items()}
    found |= {f"student.{k}": v for k, v in load_file(folder / "student-last.safetensors").items()}
    optimizer = torch.load(folder / "last" / "optimizer.pt", weights_only=True)
    for index, slots in optimizer["state"].items():
        found |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in slots.items() if v is not None}
    return found


def assert_bit_for_bit(first: Path, second: Path) -> None:
    one, other = state(first), state(second)
    assert one.keys() == other.keys() and len(one) > 100
    different = [key for key in one if not torch.equal(one[key], other[key])]
    assert not different


@pytest.mark.parametrize("after_steps", quick([2, 3], lambda steps: steps == 3))
@pytest.mark.parametrize("detector", ["retinanet", pytest.param("faster_rcnn", marks=pytest.mark.long)])
def test_two_and_two_steps_are_four_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_steps: int, detector: str
) -> None:
    """Killed between the epochs, and in the middle of the second."""
    methods = ("structural", "rank_mimicking") if detector == "retinanet" else ("structural",)
    recipe = distilled(tmp_path, methods, student={"detector": detector}, train={"ema": 0.9, "evaluate_every": 1})
    run(recipe, tmp_path / "whole")
    killed(recipe, tmp_path / "halves", monkeypatch, after_steps)
    outcome = run(recipe, tmp_path / "halves", resume=True)
    assert outcome.steps == 4
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "halves")
    whole, halves = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "halves"))
    assert whole == halves


def test_resume_with_accumulation_and_augmentation_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(train={"batch_size": 2, "accumulate": 3, "epochs": 3, "optimizer": "sgd"})
    run(recipe, tmp_path / "whole")
    killed(recipe, tmp_path / "halves", monkeypatch, 4)
    run(recipe, tmp_path / "halves", resume=True)
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "halves")


def test_the_last_record_of_a_step_is_that_of_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = distilled(tmp_path)
    run(recipe, tmp_path / "whole")
    killed(recipe, tmp_path / "halves", monkeypatch, 3)
    run(recipe, tmp_path / "halves", resume=True)
    logs = [{r["step"]: r for r in records(tmp_path / name, "step")} for name in ("whole", "halves")]
    assert logs[0].keys() == logs[1].keys() == {1, 2, 3, 4}
    for step in logs[0]:
        assert logs[0][step]["total"] == logs[1][step]["total"]
    assert len(records(tmp_path / "halves", "step")) == 5  # step 3 was done twice


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    run(recipe_of(), tmp_path / "run")
    before = state(tmp_path / "run")
    assert run(recipe_of(), tmp_path / "run", resume=True).steps == 4
    after = state(tmp_path / "run")
    assert all(torch.equal(before[key], after[key]) for key in before)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path: Path) -> None:
    run(recipe_of(train={"epochs": 1}), tmp_path / "run")
    before = listing(tmp_path / "run")
    with pytest.raises(InputError, match=r"run: already holds a run; continue it with --resume, or .* --run"):
        run(recipe_of(), tmp_path / "run")
    assert listing(tmp_path / "run") == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        run(recipe_of(), tmp_path / "run")
    assert listing(tmp_path / "run") == {"thesis.txt": b"mine"}


def test_resume_without_a_run_says_so_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        run(recipe_of(), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_resume_with_another_student_is_refused_and_the_state_stays(tmp_path: Path) -> None:
    run(recipe_of(train={"epochs": 1}), tmp_path / "run")
    before = listing(tmp_path / "run" / "last")
    with pytest.raises(InputError, match=r"--resume cannot change student\.fpn_channels from 32 to 64") as caught:
        run(recipe_of(student={"fpn_channels": 64}), tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path / "run" / "last") == before


def test_a_state_of_another_version_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    recipe = recipe_of(train={"epochs": 1})
    run(recipe, tmp_path / "run")
    weights = tmp_path / "run" / "last" / "trainables.safetensors"
    save_file(load_file(weights) | {"balance.log_of_old": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match=r"balance\.log_of_old is not the same there: another recipe, or another"):
        run(recipe, tmp_path / "run", resume=True)


def test_an_idle_term_leaves_no_folder(tmp_path: Path) -> None:
    recipe = distilled(tmp_path / "teacher", distill=[{"method": "structural", "weight": 0.0}])
    with pytest.raises(InputError, match="weight 0"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("evaluate_every", [0, 1])
def test_after_a_loss_that_is_not_finite_the_saved_state_goes_on(tmp_path: Path, evaluate_every: int) -> None:
    settings = {"optimizer": "sgd", "evaluate_every": evaluate_every}
    run(recipe_of(train={**settings, "epochs": 1}), tmp_path / "run")
    before = listing(tmp_path / "run" / "last")
    with pytest.raises(WorkError, match=r"finite|NaN") as caught:
        run(recipe_of(train={**settings, "epochs": 3, "lr": 1e30}), tmp_path / "run", resume=True)
    assert "--resume" in str(caught.value) and "\n" not in str(caught.value)
    assert listing(tmp_path / "run" / "last") == before
    assert run(recipe_of(train={**settings, "epochs": 2}), tmp_path / "run", resume=True).steps == 4


def small() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    module = torch.nn.Linear(2, 2)
    return module, torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("failing", ["torch.save", "first rename", "second rename"])
def test_a_save_that_fails_leaves_a_state_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    module, optimizer = small()
    checkpoint.save(tmp_path / "last", module.state_dict(), optimizer.state_dict(), None, Counters(step=1))
    saved = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        module.weight += 1
    renames: list[Path] = []
    rename = Path.rename

    def failing_rename(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == {"first rename": 1, "second rename": 2}.get(failing):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    def failing_save(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing_rename)
        if failing == "torch.save":
            patch.setattr(torch, "save", failing_save)
        with pytest.raises(InputError, match="No space left on device"):
            checkpoint.save(tmp_path / "last", module.state_dict(), optimizer.state_dict(), None, Counters(step=2))
    other, its_optimizer = small()
    assert checkpoint.load(tmp_path / "last", other, its_optimizer, None).step == 1
    assert all(torch.equal(saved[name], tensor) for name, tensor in other.state_dict().items())
    checkpoint.save(tmp_path / "last", module.state_dict(), optimizer.state_dict(), None, Counters(step=3))
    assert checkpoint.load(tmp_path / "last", other, its_optimizer, None).step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("name", ["trainables.safetensors", "optimizer.pt", "counters.json"])
def test_a_damaged_state_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    module, optimizer = small()
    checkpoint.save(tmp_path / "last", module.state_dict(), optimizer.state_dict(), None, Counters(step=1))
    (tmp_path / "last" / name).write_bytes(b"garbage")
    with pytest.raises(InputError, match="last: ") as caught:
        checkpoint.load(tmp_path / "last", module, optimizer, None)
    assert "\n" not in str(caught.value)
