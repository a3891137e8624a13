"""Whatever people give to whichever command: it works, or ends with one line that says what to do, no traceback."""

import random
import shutil
from pathlib import Path

import pytest
from walk import ALL, QUICK, READ, Commands, Walk, fault, prepared


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every walk starts from, made once."""
    return prepared(tmp_path_factory.mktemp("walk") / "start")


def go(inputs: Path, folder: Path, commands: Commands, *, seed: int, steps: int) -> None:
    """So many commands by chance; the same seed, the same walk."""
    shutil.copytree(inputs, folder / "walk")
    walk = Walk(folder / "walk", random.Random(seed), commands)
    ended_well = 0
    for _ in range(steps):
        words, ended = walk.step()
        wrong = fault(words, ended)
        assert not wrong, f"{wrong}: kdet {' '.join(map(str, words))}: {ended}"
        ended_well += ended.status == 0
    assert ended_well > steps / 20, "a walk of nothing but refusals shows little"


def test_a_few_commands_that_read_data(inputs: Path, tmp_path: Path) -> None:
    go(inputs, tmp_path, READ, seed=1, steps=15)


@pytest.mark.long
def test_commands_that_read(inputs: Path, tmp_path: Path) -> None:
    go(inputs, tmp_path, QUICK, seed=2, steps=150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_commands(inputs: Path, tmp_path: Path, seed: int) -> None:
    go(inputs, tmp_path, ALL, seed=10 + seed, steps=150)
