"""Docstrings say what a thing is: no sentence begins in the middle, and examples print what they say."""

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kdet
from kdet.distill import Distiller, Term
from kdet.losses import LOSSES

SOURCE = Path(kdet.__file__).parent
FRAGMENT = re.compile(r"(Of|As)\b")
"""Leaves the thing unnamed: "Of the last epoch." """
WITH_EXAMPLES = [*LOSSES.values(), kdet.wrap, kdet.build, Distiller, Term]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of modules, classes and functions, and of the strings under an assignment."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for before, statement in zip([None, *node.body], node.body, strict=False):
            match (before, statement):
                case (None | ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text)))):
                    yield statement.lineno, text


def test_no_docstring_begins_in_the_middle_of_a_sentence() -> None:
    found = {
        f"{file.relative_to(SOURCE)}:{line}": text
        for file in SOURCE.rglob("*.py")
        for line, text in docstrings(file.read_text(encoding="utf-8"))
        if FRAGMENT.match(text.lstrip())
    }
    assert not found


def test_fragments_are_found_wherever_a_docstring_may_stand() -> None:
    source = '"""Of one."""\nx = 1\n"""As two."""\nclass A:\n    """Off."""\n    y: int\n    """Of y."""\n'
    source += '    def f():\n        """As f."""\n        z = 1\n        """As z."""\n'
    assert [line for line, text in docstrings(source) if FRAGMENT.match(text)] == [1, 3, 7, 9, 11]


@pytest.mark.parametrize("documented", WITH_EXAMPLES, ids=lambda documented: documented.__name__)
def test_examples_print_what_they_say(documented: object) -> None:
    (found,) = doctest.DocTestFinder(recurse=False).find(documented, globs={})
    assert found.examples, "no example; add one under `Examples:`"
    assert not doctest.DocTestRunner().run(found).failed
