"""The cases in `../shared/cases`, beside a checkout that has them, copied so that they may be written to."""

import shutil
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"


def case(name: str, folder: Path) -> Path:
    """A copy of one case with its own place written into it; skips where the cases are not."""
    found = next(iter(sorted(CASES.glob(f"{name}*"))), None)
    if found is None:
        pytest.skip(f"case {name} is not in {CASES}")
    target = folder / found.name
    shutil.copytree(found, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for file in target.rglob("*"):
        if file.suffix in (".yaml", ".txt", ".json"):
            file.write_text(file.read_text("utf-8").replace("@HERE@", str(folder)), "utf-8")
    return target
