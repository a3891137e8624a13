"""Numbers that break and memory that is too small: what is said, what is kept, what goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_cases import distilled, records, run
from typer.testing import CliRunner

from kdet.cli.app import app
from kdet.distill.criterion import Criterion
from kdet.errors import InputError, WorkError
from kdet.train import read_recipe, step
from kdet.train.processes.engine import Engine
from kdet.train.state.bad_batch import BAD_BATCH, read
from kdet.workflows.check.replay import replay


def break_term(patch: pytest.MonkeyPatch, at: set[int], name: str = "structural") -> None:
    """The term's value is infinite in these steps of a run; the proof before it, and what looks closer, count too."""
    original: Callable[..., Any] = step._forward
    calls = 0

    def forward(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in at:
            with pytest.MonkeyPatch.context() as inner:
                raw = Criterion.raw
                inner.setattr(Criterion, "raw", lambda self, contexts: broken(raw(self, contexts)))
                return original(*arguments, **options)
        return original(*arguments, **options)

    def broken(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return values | {name: values[name] * torch.inf}

    patch.setattr(step, "_forward", forward)


def poisoned(folder: Path) -> Any:
    """A recipe whose student breaks at stride 16 in the second step: the learning rate is absurd."""
    return distilled(folder, ("structural",), train={"optimizer": "sgd", "lr": 1e30, "epochs": 1})


def test_a_loss_that_breaks_names_term_level_range_and_images_and_keeps_the_batch(tmp_path: Path) -> None:
    with pytest.raises(WorkError) as caught:
        run(poisoned(tmp_path), tmp_path / "run")
    said = str(caught.value)
    assert "\n" not in said and "not finite" in said
    assert "student features, stride" in said and "largest before it: " in said
    kept = read(tmp_path / "run" / BAD_BATCH)
    assert str(kept.batch.image_ids) in said and kept.step == 1
    assert f"kdet check {tmp_path / 'run' / 'recipe.yaml'} --replay {tmp_path / 'run' / BAD_BATCH}" in said


def test_the_kept_step_is_replayed_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(WorkError):
        run(poisoned(tmp_path), tmp_path / "run")
    words = ["check", str(tmp_path / "run" / "recipe.yaml"), "--replay", str(tmp_path / "run" / BAD_BATCH)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 1, shown.output
    assert "step 2 on images" in shown.output and "not finite" in shown.output
    result = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    first = next(part for part in result["parts"] if part["broken"])
    assert first["name"].startswith("student features, stride")
    names = [part["name"] for part in result["parts"]]
    assert names[0] == "pixels" and "teacher features, stride 8" in names and "structural, stride 16" in names


def test_a_replay_of_a_sound_step_says_that_all_is_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_term(monkeypatch, {2})
    with pytest.raises(WorkError, match="every value of the forward pass is finite when it is done again"):
        run(distilled(tmp_path), tmp_path / "run")
    result = replay(read_recipe(tmp_path / "run" / "recipe.yaml"), tmp_path / "run" / BAD_BATCH)
    assert result["finite"] and {"structural", "rank_mimicking"} <= set(result["gradients"])


def test_a_broken_gradient_ends_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backward(self: Engine, loss: torch.Tensor) -> None:
        (loss * torch.inf).backward()

    monkeypatch.setattr(Engine, "backward", backward)
    with pytest.raises(WorkError, match=r"the gradient is not finite \(model\..*, and \d+ more\) on images"):
        run(distilled(tmp_path), tmp_path / "run")


def test_steps_that_break_are_left_out_where_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_term(monkeypatch, {2, 3})
    assert run(distilled(tmp_path, train={"skip_nonfinite": 2}), tmp_path / "run").steps == 4
    notes = [record["text"] for record in records(tmp_path / "run", "note")]
    left_out = [note for note in notes if "is left out" in note]
    assert len(left_out) == 2 and "step 2 is left out: the loss is not finite (task/" in left_out[0]
    assert not (tmp_path / "run" / BAD_BATCH).exists()


def test_more_of_them_in_a_row_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_term(monkeypatch, {2, 3})
    with pytest.raises(WorkError, match="not finite"):
        run(distilled(tmp_path, train={"skip_nonfinite": 1}), tmp_path / "run")


def test_what_is_left_out_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose only step breaks ends with the weights and statistics that it began with."""
    break_term(monkeypatch, {1})
    settings = {"skip_nonfinite": 1, "max_steps": 1}
    run(distilled(tmp_path, train=settings), tmp_path / "run")
    from safetensors.torch import load_file

    after = load_file(tmp_path / "run" / "last" / "trainables.safetensors")
    means = [value for name, value in after.items() if name.endswith("running_mean")]
    assert means and all(not mean.any() for mean in means)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_too_little_memory_says_what_to_reduce_and_what_a_step_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def forward(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(step, "_forward", forward)
    with pytest.raises(WorkError) as caught:
        run(distilled(tmp_path), tmp_path / "run")
    said = str(caught.value)
    assert "out of memory at step 1 with 4 images of 64×64 px: it needs some" in said
    assert "train.batch_size" in said and "--resume" in said and "\n" not in said


def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    run(distilled(tmp_path, train={"max_steps": 1}), tmp_path / "run")
    recipe = read_recipe(tmp_path / "run" / "recipe.yaml")
    with pytest.raises(InputError, match="name the folder bad-batch of a run"):
        replay(recipe, tmp_path / "run")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "batch.json").write_text("{}")
    (tmp_path / "damaged" / "batch.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged, or not the folder") as caught:
        replay(recipe, tmp_path / "damaged")
    assert "\n" not in str(caught.value)
