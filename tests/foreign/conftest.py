"""These tests run the user's own factory, as `--allow-code` permits, from the root of the repository."""

from collections.abc import Iterator

import pytest
from foreign_pairs import ROOT

from kdet.detectors import ALLOWED


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Code may run, and nothing is fetched."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv(ALLOWED, "1")
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    yield
