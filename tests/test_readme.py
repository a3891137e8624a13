"""Links of the pages lead somewhere, and the README's commands have help; tests/test_docs.py runs what is shown."""

import re
from pathlib import Path

import pytest

from cli.cli_cases import in_this_process

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^\s*(kdet [a-z].*?)(?:\s+#.*)?$", re.MULTILINE)


def test_every_command_of_the_readme_answers_to_help():
    names = {line.split()[1] for line in COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"demo", "train", "distill", "evaluate", "predict", "report", "data", "list"} <= names
    for name in sorted(names):
        done = in_this_process(name, "--help", folder=ROOT)
        assert done.status == 0 and (name == "data" or "Example:" in done.out), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
