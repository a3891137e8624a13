"""Runs in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fakes import tiny_recipe, write_yaml
from kdet.errors import InputError, WorkError
from kdet.workflows.budget import seconds_of
from kdet.workflows.compare.workers import Workers, processes
from patience import PATIENCE_S, wait_until

TEACHER = {"detector": "retinanet", "backbone": "resnet10", "width": 0.25, "fpn_channels": 32}


@pytest.mark.long
def test_each_job_has_a_process_of_its_own_and_its_death_is_told() -> None:
    with Workers() as workers:
        pids = [workers.submit(os.getpid) for _ in range(2)]
        dead = workers.submit(os._exit, 3)
        assert len({os.getpid(), *(job.result() for job in pids)}) == 3
        with pytest.raises(WorkError, match="was killed"):
            dead.result()


def test_a_process_sees_its_gpu_alone_and_has_its_threads() -> None:
    with processes(1, threads=1, device="3") as pool:
        assert pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() == "3"
        assert pool.submit(torch.get_num_threads).result() == 1


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_to_a_comparison_ends_its_runs_which_save(tmp_path: Path, number: signal.Signals) -> None:
    long = tiny_recipe(train={"epochs": 5000}, teacher=TEACHER)
    recipe = write_yaml(tmp_path / "r.yaml", long)
    words = ["compare", str(recipe), "--arms", "none,l2", "--seeds", "1", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", "from kdet.cli.__main__ import main; main()", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    states = [tmp_path / "out" / arm / "seed-0" / "last" / "counters.json" for arm in ("none", "l2")]
    wait_until(lambda: all(path.exists() for path in states), ended=lambda: process.poll() is not None)
    send = os.killpg if number == signal.SIGINT else os.kill  # a terminal sends Ctrl-C to the whole group
    send(process.pid, number)
    _, said = process.communicate(timeout=PATIENCE_S)  # the pipe ends with the last child
    assert process.returncode == 130, said
    assert "the same command goes on" in said.splitlines()[-1] and "Traceback" not in said
    saved = {json.loads(path.read_text())["step"] for path in states}
    assert all(0 < step < 10000 for step in saved)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0m", "-1h", "2 hours", "30m1h"])
def test_wrong_times(text: str) -> None:
    with pytest.raises(InputError, match="expected a time such as 2h"):
        seconds_of(text)
