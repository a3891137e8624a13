"""Imports point downward, and each heavy dependency has one door."""

import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_S

ROOT = Path(__file__).parents[1]


def test_every_import_obeys_the_layers() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "KEPT" in found.stdout and "BROKEN" not in found.stdout
