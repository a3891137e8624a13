"""What the README and the guides show must run: Python blocks are executed, commands and links must exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fakes import tiny_recipe
from kdet.train import Recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^\s*(kdet [a-z].*?)(?:\s+#.*)?$", re.MULTILINE)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_python_of_the_readme_runs_from_top_to_bottom():
    snippets = blocks(ROOT / "README.md", "python")
    assert len(snippets) >= 2
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["report"].total.isfinite()


def test_python_of_the_guide_to_other_teachers_runs():
    snippets = blocks(ROOT / "docs" / "guides" / "other-teachers.md", "python")
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "other-teachers.md", "exec"), {})


@pytest.mark.parametrize("guide", ["other-teachers", "long-runs"])
def test_recipe_keys_of_guides_are_known(guide):
    snippets = blocks(ROOT / "docs" / "guides" / f"{guide}.md", "yaml")
    assert snippets
    for snippet in snippets:
        Recipe.model_validate({**tiny_recipe(), **yaml.safe_load(snippet)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    for line in COMMAND.findall(page.read_text(encoding="utf-8")):
        words = line.replace("…", " ").split()
        for word in words:
            if word.startswith("recipes/"):
                assert (ROOT / word).is_file(), f"{page.name}: {line}"


def test_every_command_of_the_readme_answers_to_help():
    names = {line.split()[1] for line in COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"demo", "train", "distill", "evaluate", "predict", "report", "data", "list"} <= names
    for name in sorted(names):
        done = subprocess.run(
            [sys.executable, "-m", "kdet.cli", name, "--help"], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0 and (name == "data" or "Example:" in done.stdout), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_of_the_readme_exist():
    targets = re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
