"""The quickstart notebook, run from top to bottom by a kernel of its own."""

import re
from pathlib import Path
from typing import Any

import pytest

from patience import PATIENCE_S

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient: pip install 'kdet[notebook]'")
nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat: pip install 'kdet[notebook]'")


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs() -> None:
    book = read()
    nbformat.validate(book)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of the kernel's client, not of kdet
def test_it_runs_and_shows_three_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that fight for busy cores take minutes
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    done = nbclient.NotebookClient(
        read(),
        timeout=PATIENCE_S,
        startup_timeout=PATIENCE_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    found = {name: float(value) for name, value in re.findall(r"^(\w+) +AP (0\.\d{3})$", printed, re.MULTILINE)}
    assert set(found) == {"teacher", "alone", "distilled"} and found["teacher"] > 0.02
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
