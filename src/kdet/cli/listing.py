"""kdet list: from a file that `make docs` writes, for its tables need torch."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kdet.cli.options import AsJson, show


class What(StrEnum):
    """The tables there are."""

    METHODS = "methods"
    DETECTORS = "detectors"
    FORMATS = "formats"


def list_names(what: Annotated[What, typer.Argument(help="Which table.")], as_json: AsJson = False) -> None:
    """List methods, detectors or data formats.

    Example: kdet list methods
    """
    rows = json.loads((Path(__file__).parents[1] / "lists.json").read_text(encoding="utf-8"))[what.value]
    show({what.value: rows}, as_json, lambda: "\n".join(_lines(rows)))


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """Columns as wide as their content."""
    shown = [{key: "–" if value is None else value for key, value in row.items()} for row in rows]
    table = [dict(zip(rows[0], rows[0], strict=True)), *shown]
    widths = {key: max(len(str(row[key])) for row in table) for key in rows[0]}
    return ["  ".join(f"{row[key]!s:<{width}}" for key, width in widths.items()).rstrip() for row in table]
