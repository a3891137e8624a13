"""Runs in processes of their own."""

import os

import pytest
import torch

from kdet.errors import InputError, WorkError
from kdet.study.budget import seconds_of
from kdet.study.workers import Workers, processes


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


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0m", "-1h", "2 hours", "30m1h"])
def test_wrong_times(text: str) -> None:
    with pytest.raises(InputError, match="expected a time such as 2h"):
        seconds_of(text)
