"""Run `kdet` as a user does: in a process of its own, or through its entry point where many calls are made."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdet.cli.__main__ import main
from patience import PATIENCE_S


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """Standard output as the one JSON object that it must be."""
        return json.loads(self.out)


def in_own_process(*arguments: str | Path, folder: Path) -> Ended:
    """`kdet arguments…` started in a folder."""
    command = [sys.executable, "-m", "kdet.cli", *map(str, arguments)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that fight for busy cores take minutes
    found = subprocess.run(
        command, cwd=folder, env=alone, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return Ended(found.returncode, found.stdout, found.stderr)


def in_this_process(*arguments: str | Path, folder: Path) -> Ended:
    """The same without a process of its own, which takes longer to start than to train."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["kdet", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return Ended(status, out.getvalue(), err.getvalue())


class Command:
    """The entry point called in this process, in a folder of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.patch, self.capture = folder, patch, capture
        patch.chdir(folder)

    def __call__(self, *arguments: str | Path) -> Ended:
        self.patch.setattr(sys, "argv", ["kdet", *map(str, arguments)])
        self.capture.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = self.capture.readouterr()
        return Ended(status, out, err)

    def files(self) -> set[str]:
        """Everything below the folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}
