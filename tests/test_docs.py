"""Every snippet of README and docs is executed: a new one is picked up by itself.

* Python runs, the blocks of a page in their order and in one namespace, in an empty folder. That of export.md reads
  what the page's commands write, and runs behind them.
* YAML is read as a recipe, with a tiny recipe's sections for those that it leaves out. So is a section in a sentence;
  where it does not say of which kind it is, it adds to the tiny one.
* Commands are read by the real command line. tests/cli/test_cli_docs.py says which of them are run too, and on what.
* A block without a language is output, and stays as it is.
"""

import re
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.run
import yaml
from typer.main import get_command

from doc_snippets import (
    INLINE_COMMAND,
    PAGES,
    ROOT,
    SECTION,
    blocks,
    command_lines,
    inside_sentences,
    of,
    run_python,
    words_of,
)
from fakes import tiny_recipe, write_yaml
from kdet.cli.app import app
from kdet.detectors import ALLOWED
from kdet.train import read_recipe

NEEDS = {"foreign-loops": ("lightning", "transformers"), "yolo": ("ultralytics",)}
"""Pages whose Python is about somebody else's library. That of yolo.md runs in tests/foreign."""
KINDS = {"format", "detector", "run", "foundation", "factory"}
"""Keys that say of which kind a section is."""
WITH_TEACHER = {"teacher": {"run": "runs/teacher"}, "distill": [{"method": "structural"}]}


def with_any(kind: str, but: Sequence[str] = ()) -> pytest.MarkDecorator:
    """The pages that have such blocks."""
    chosen = [page for page in PAGES if of(page, kind) and page.stem not in but]
    assert chosen
    return pytest.mark.parametrize("page", chosen, ids=lambda page: page.stem)


@with_any("python", but=("export",))
def test_python_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in NEEDS.get(page.stem, ()):
        pytest.importorskip(library, reason=f"this page is about {library}")
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipes_and_their_sections_are_read(page: Path, tmp_path: Path) -> None:
    whole = tiny_recipe(**WITH_TEACHER)
    path = tmp_path / "recipe.yaml"
    for text in of(page, "yaml"):
        missing = {name: section for name, section in whole.items() if name not in yaml.safe_load(text)}
        path.write_text(text + (f"\n{yaml.safe_dump(missing)}" if missing else ""), encoding="utf-8")
        read_recipe(path)
    for span in inside_sentences(page, SECTION):
        ((name, section),) = yaml.safe_load(span).items()
        if isinstance(section, dict) and not section.keys() & KINDS:
            section = whole[name] | section
        read_recipe(write_yaml(path, whole | {name: section}))


@with_any("bash")
def test_scripts_are_such(page: Path) -> None:
    for script in of(page, "bash"):
        checked = subprocess.run(["bash", "-n"], input=re.sub(r"[|…]", "", script), text=True, check=False)
        assert checked.returncode == 0, script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "")  # reading --allow-code sets it
    for words in [words for script in of(page, "bash") for words in command_lines(script)]:
        understand(words)
    for span in inside_sentences(page, INLINE_COMMAND):
        understand(words_of(span), whole=False)


def understand(words: list[str], *, whole: bool = True) -> None:
    """Nothing is run. Arguments may be missing where a command is only spoken of."""
    if words[0] == "torchrun":
        launched = torch.distributed.run.get_args_parser().parse_args(words[1:])
        assert launched.module and launched.training_script == "kdet.cli", words
        rest = ["--resume" if word == "$resume" else word for word in launched.training_script_args if word != "--"]
        understand(["kdet", *rest])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), words
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), words
    elif words[0] == "pip":
        extra = re.fullmatch(r"kdet\[(\w+)\]", words[2])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert extra and extra[1] in project["optional-dependencies"], words
    else:
        for last in words[-1].split("|"):  # `data inspect|convert|shapes` are three
            options = parse([*words[1:-1], last], whole=whole and "|" not in words[-1])
            require_recipe(options)


def parse(words: list[str], *, whole: bool) -> dict[str, Any]:
    """What the command line makes of them: its arguments and options by name."""
    command: Any = get_command(app)
    name = "kdet"
    while hasattr(command, "resolve_command"):
        outer = command.make_context(name, [], resilient_parsing=True)
        name, command, words = command.resolve_command(outer, words)
    try:
        return command.make_context(name, words).params
    except Exception as error:  # typer keeps the class to itself
        told = str(error.format_message()) if hasattr(error, "format_message") else ""
        if whole or not told.startswith("Missing argument"):
            raise
    return {}


def require_recipe(options: dict[str, Any]) -> None:
    """A recipe that is shipped is there, and takes the `-o` given."""
    recipe = options.get("recipe")
    if recipe is not None and recipe.parts[0] == "recipes":
        read_recipe(ROOT / recipe, options["override"] or ())


@pytest.mark.parametrize(
    "line",
    ["kdet distil RECIPE", "kdet train", "kdet train RECIPE --runs x", "torchrun --nproc 2 -m kdet.cli -- check"],
)
def test_what_the_command_line_does_not_know_is_found(line: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        understand(words_of(line))


@pytest.mark.parametrize(
    "text", ["```json\n{}\n```", "A block:\n\n    neither command nor recipe\n"], ids=["language", "indented"]
)
def test_a_block_that_no_test_would_run_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md"):
        blocks(tmp_path / "page.md")


def test_blocks_are_found_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "Say\n\n    kdet demo\n    kdet list methods\n\n```python\n    x = 1\n```\n\n    data: {format: shapes}\n\n"
        "```\nprinted\n```\n\nand `kdet demo`.\n",
        encoding="utf-8",
    )
    assert [snippet.kind for snippet in blocks(tmp_path / "page.md")] == ["bash", "python", "yaml", "output"]
    assert blocks(tmp_path / "page.md")[0].text == "kdet demo\nkdet list methods\n"
