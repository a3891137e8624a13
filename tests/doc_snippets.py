"""What the pages show, taken apart: blocks of code, and recipes and commands inside a sentence."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "guides").glob("*.md"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:^    .*\n(?:\n(?=    ))?)+", re.MULTILINE)
COMMANDS = re.compile(r"(kdet|make|torchrun|python|pip) ")
RECIPE_KEY = re.compile(r"(data|student|teacher|distill|train|arms):(\s|$)")
SECTION = re.compile(r"`((?:data|student|teacher|distill|train|arms): [{\[][^`]*)`")
INLINE_COMMAND = re.compile(r"`((?:kdet [a-z]|pip install 'kdet|python examples)[^`]*)`")


@dataclass(frozen=True)
class Snippet:
    """One block."""

    kind: str
    """python, yaml, bash, or output: what a command printed or a formula, which nobody can run."""
    text: str


def blocks(page: Path) -> list[Snippet]:
    """Fenced and indented blocks, in the page's order.

    Raises:
        ValueError: a block of a kind that no test runs.
    """
    text = page.read_text(encoding="utf-8")
    found = [(match.start(), Snippet(_fenced(match[1], page), match[2])) for match in FENCE.finditer(text)]
    prose = FENCE.sub(lambda match: re.sub(r"[^\n]", ".", match[0]), text)  # the same length, nothing indented
    for match in INDENTED.finditer(prose):
        found.append((match.start(), _indented(re.sub(r"^    ", "", match[0], flags=re.MULTILINE), page)))
    return [snippet for _, snippet in sorted(found, key=lambda pair: pair[0])]


def of(page: Path, kind: str) -> list[str]:
    """Its blocks of one kind."""
    return [snippet.text for snippet in blocks(page) if snippet.kind == kind]


def run_python(page: Path) -> None:
    """Its blocks from top to bottom, in one namespace and in this folder."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for snippet in of(page, "python"):
        exec(compile(snippet, page.name, "exec"), namespace)


def inside_sentences(page: Path, pattern: re.Pattern[str]) -> list[str]:
    """Code spans of one form, outside blocks."""
    return pattern.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def command_lines(script: str) -> list[list[str]]:
    """Words of each command of a script; comments are left out, continued lines are joined."""
    lines = script.replace("\\\n", " ").splitlines()
    return [words for line in lines if COMMANDS.match(line.removeprefix("srun ")) and (words := words_of(line))]


def words_of(line: str) -> list[str]:
    """As the shell splits them; `…` stands for more of the same."""
    return shlex.split(line.removeprefix("srun ").replace("…", ""), comments=True)


def _fenced(language: str, page: Path) -> str:
    kinds = {"python": "python", "yaml": "yaml", "bash": "bash", "": "output", "text": "output"}
    if language not in kinds:
        raise ValueError(f"{page.name}: no test runs a block of {language!r}; use one of {list(kinds)}")
    return kinds[language]


def _indented(text: str, page: Path) -> Snippet:
    if COMMANDS.match(text):
        return Snippet("bash", text)
    if RECIPE_KEY.match(text):
        return Snippet("yaml", text)
    raise ValueError(f"{page.name}: neither commands nor a part of a recipe: {text.splitlines()[0]}; use a fence")
