"""The same tensors and texts are the same bytes, in any process; the library reads them as it reads its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fakes import tiny
from kdet.tensor_file import save_tensors
from kdet.train.state.run_folder import save_student
from patience import PATIENCE_S

TEXTS = {name: json.dumps({"of": name, "sign": 'ü "\\ \n\x1f\x7f'}) for name in ("kdet", "format", "a", "z", "Z", "ö")}
TENSORS = {"weight": torch.arange(12.0).view(3, 4).t(), "steps": torch.tensor([3]), "bias": torch.ones(2).half()}
AGAIN = "import sys, pathlib; from test_tensor_file import *; save_tensors(TENSORS, pathlib.Path(sys.argv[1]), TEXTS)"


@pytest.mark.long
def test_two_processes_write_the_same_bytes_and_all_of_it_is_read_again(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    save_tensors(TENSORS, ours, TEXTS)
    command = [sys.executable, "-c", AGAIN, str(theirs)]
    subprocess.run(command, cwd=Path(__file__).parent, check=True, timeout=PATIENCE_S)
    assert ours.read_bytes() == theirs.read_bytes()
    with safe_open(ours, framework="pt") as handle:
        assert handle.metadata() == TEXTS
    found = load_file(ours)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in TENSORS.items())


def test_the_texts_stand_in_order(tmp_path: Path) -> None:
    save_tensors(TENSORS, tmp_path / "a.safetensors", TEXTS)
    content = (tmp_path / "a.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == sorted(TEXTS)


def test_a_student_file_is_the_same_every_time(tmp_path: Path) -> None:
    detector = tiny()
    written: set[bytes] = set()
    for _ in range(8):
        save_student(detector, detector.native_state(), tmp_path / "student.safetensors")
        written.add((tmp_path / "student.safetensors").read_bytes())
    assert len(written) == 1
