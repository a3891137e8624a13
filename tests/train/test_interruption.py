"""SIGTERM and SIGINT save and stop; SIGKILL at any moment loses no more than the time since the last save."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_resume import assert_bit_for_bit
from train_cases import distilled, recipe_of, run

from kdet.errors import Interrupted
from kdet.train import Recipe, loop, read_recipe
from kdet.train.recipe.file import write_recipe
from kdet.train.state.interruption import Interruption
from patience import PATIENCE_S, wait_until


def signalled(recipe: Recipe, folder: Path, patch: pytest.MonkeyPatch, number: int, where: str, **options: Any) -> str:
    """A run that gets a signal in its third step, or at the start of its first evaluation; returns its last words."""
    original: Callable[..., Any] = getattr(loop, where)
    calls = 0

    def wrapped(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (3 if where == "take_step" else 1):
            signal.raise_signal(number)
        return original(*arguments)

    with patch.context() as context:
        context.setattr(loop, where, wrapped)
        with pytest.raises(Interrupted) as caught:
            run(recipe, folder, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGINT], ids=lambda number: number.name
)
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    recipe = distilled(tmp_path, train={"ema": 0.9})
    run(recipe, tmp_path / "whole")
    before = signal.getsignal(number)
    words = signalled(recipe, tmp_path / "halves", monkeypatch, number, "take_step")
    assert words.startswith(f"{tmp_path / 'halves'}: after step 3 of 4 stopped by {number.name};")
    assert "--resume" in words and "\n" not in words
    assert signal.getsignal(number) == before
    assert run(recipe, tmp_path / "halves", resume=True).steps == 4
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "halves")


def test_a_signal_waits_for_the_end_of_an_optimizer_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(train={"batch_size": 2, "accumulate": 2, "epochs": 1})
    run(recipe, tmp_path / "whole")
    signalled(recipe, tmp_path / "halves", monkeypatch, signal.SIGTERM, "take_step")
    run(recipe, tmp_path / "halves", resume=True)
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "halves")


def test_an_evaluation_is_left_at_once_and_comes_first_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(train={"evaluate_every": 1})
    run(recipe, tmp_path / "whole")
    signalled(recipe, tmp_path / "halves", monkeypatch, signal.SIGTERM, "evaluate")
    assert not (tmp_path / "halves" / "metrics.json").exists()
    run(recipe, tmp_path / "halves", resume=True)
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "halves")
    assert (tmp_path / "whole" / "metrics.json").read_text() == (tmp_path / "halves" / "metrics.json").read_text()


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        assert interruption.caught == "SIGINT"
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_the_process_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.caught is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_states_are_saved_within_a_long_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = 0
    original: Callable[..., Any] = loop.checkpoint.save

    def counted(*arguments: Any) -> None:
        nonlocal saves
        saves += 1
        original(*arguments)

    monkeypatch.setattr(loop.checkpoint, "save", counted)
    run(recipe_of(train={"save_minutes": 1e-9, "epochs": 1}), tmp_path / "run")
    assert saves == 3  # after the first of two steps, after the epoch, after its evaluation


def test_a_run_that_was_killed_before_its_first_state_begins_anew(tmp_path: Path) -> None:
    recipe = recipe_of()
    run(recipe, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    write_recipe(recipe, tmp_path / "killed" / "recipe.yaml.new")
    assert run(recipe, tmp_path / "killed", resume=True).steps == 4
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "killed")
    assert (tmp_path / "killed" / "student_model").is_dir()


def command(recipe: Path, folder: Path, *options: str) -> list[str]:
    words = ["distill", str(recipe), "--run", str(folder), *options]
    return [sys.executable, "-c", "from kdet.cli.__main__ import main; main()", *words]


@pytest.mark.long
def test_a_command_that_gets_sigterm_ends_with_status_130_and_one_line(tmp_path: Path) -> None:
    write_recipe(distilled(tmp_path, train={"epochs": 5000}), tmp_path / "r.yaml")
    process = subprocess.Popen(command(tmp_path / "r.yaml", tmp_path / "run"), stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "run" / "last").exists, ended=lambda: process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert "stopped by SIGTERM" in said.splitlines()[-1] and "Traceback" not in said


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """KDET_KILLS (40) times SIGKILL, each after a random time; the weights are those of the undisturbed run."""
    recipe = distilled(tmp_path, train={"epochs": 60, "evaluate_every": 7, "save_minutes": 0.002, "ema": 0.9})
    write_recipe(recipe, tmp_path / "r.yaml")
    recipe = read_recipe(tmp_path / "r.yaml")
    run(recipe, tmp_path / "whole")
    times = random.Random(0)
    as_here = os.environ | {"OMP_NUM_THREADS": "1"}  # with other threads sums have other bits
    kills = 0
    for _ in range(int(os.environ.get("KDET_KILLS", "40"))):
        resume = ["--resume"] if (tmp_path / "killed").exists() else []
        process = subprocess.Popen(
            command(tmp_path / "r.yaml", tmp_path / "killed", *resume), stderr=subprocess.DEVNULL, env=as_here
        )
        try:
            process.wait(times.uniform(2, 14))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        if process.wait() == 0:
            break
    run(recipe, tmp_path / "killed", resume=(tmp_path / "killed").exists())
    assert kills > 0
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "killed")
