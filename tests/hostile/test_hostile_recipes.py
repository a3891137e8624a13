"""Recipes with anything in them: refused by one line, before a run folder begins."""

from pathlib import Path

import pytest
from hostile_cases import assert_refused, put
from recipe_text_cases import GOOD, TEXTS
from recipe_value_cases import VALUES

from kdet.train import fit, read_recipe


@pytest.mark.parametrize("name", TEXTS)
def test_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = TEXTS[name]
    path = put(tmp_path / "r.yaml", content)
    assert_refused(lambda: fit(read_recipe(path), tmp_path / "run"), tmp_path, words)


@pytest.mark.parametrize("name", VALUES)
def test_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    overrides, words = VALUES[name]
    path = put(tmp_path / "r.yaml", GOOD)
    given = (overrides,) if isinstance(overrides, str) else overrides
    assert_refused(lambda: fit(read_recipe(path, given), tmp_path / "run"), tmp_path, words)
