"""Run folders: a page is made of them or a line says which file is wrong; what cannot be resumed is left as it is."""

import shutil
from pathlib import Path

import pytest
from hostile_cases import assert_refused, contents, deadline, put
from PIL import Image
from run_folder_cases import HARMLESS, PLACES, TEXTS, run_folder, state_of

from fakes import tiny_recipe
from kdet.report import run_page
from kdet.train import Recipe, fit


@pytest.mark.parametrize("name", TEXTS)
def test_text(tmp_path: Path, name: str) -> None:
    file, content, words = TEXTS[name]
    folder = run_folder(tmp_path / "run")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    put(folder / file, content)
    assert_refused(lambda: run_page([folder]), tmp_path, words)


@pytest.mark.parametrize("name", PLACES)
def test_place(tmp_path: Path, name: str) -> None:
    change, words = PLACES[name]
    folder = run_folder(tmp_path / "run")
    change(folder)
    assert_refused(lambda: run_page([folder]), tmp_path, words)


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_but_shown(tmp_path: Path, name: str) -> None:
    file, content = HARMLESS[name]
    folder = run_folder(tmp_path / "run")
    put(folder / file, content)
    with deadline(60):
        page = run_page([folder])
    assert "<html" in page and "<script>alert" not in page


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """A run of one step."""
    recipe = Recipe.model_validate(tiny_recipe(data={"images": 4, "val_images": 1}, train={"epochs": 1}))
    folder = tmp_path_factory.mktemp("finished") / "run"
    fit(recipe, folder)
    return folder, recipe


def test_what_cannot_be_resumed_is_left_as_it_is(finished: tuple[Path, Recipe], tmp_path: Path) -> None:
    """All cases in one test: they share a run and a recipe."""
    whole, recipe = finished
    folder = tmp_path / "run"
    cases = state_of(whole / "last")
    for name in cases:
        shutil.copytree(whole, folder)
        change, words = state_of(folder / "last")[name]
        sign = tmp_path / "it-ran"
        change(sign)
        before = contents(folder)
        assert_refused(lambda: fit(recipe, folder, resume=True), folder, words)
        assert contents(folder) == before and not sign.exists(), name
        shutil.rmtree(folder)
    assert len(cases) >= 20
