"""kdet list."""

from enum import StrEnum
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
    rows = {What.METHODS: _methods, What.DETECTORS: _detectors, What.FORMATS: _formats}[what]()
    show({what.value: rows}, as_json, lambda: "\n".join(_lines(rows)))


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """Columns as wide as their content."""
    shown = [{key: "–" if value is None else value for key, value in row.items()} for row in rows]
    table = [dict(zip(rows[0], rows[0], strict=True)), *shown]
    widths = {key: max(len(str(row[key])) for row in table) for key in rows[0]}
    return ["  ".join(f"{row[key]!s:<{width}}" for key, width in widths.items()).rstrip() for row in table]


def _methods() -> list[dict[str, Any]]:
    from kdet.distill import METHODS
    from kdet.study.served import served

    return [
        {
            "name": name,
            "weight": method.weight,
            "published": method.published,
            "needs": ", ".join(sorted(frozenset.union(*method.needs()) - {"task losses"})),
            "detectors": served(method),
            "paper": str(method.paper),
        }
        for name, method in METHODS.items()
    ]


def _detectors() -> list[dict[str, Any]]:
    from kdet.detectors import DETECTORS
    from kdet.detectors.detr_families import FAMILIES
    from kdet.detectors.plain import BACKBONES

    others = {"ssdlite": "mobilenet_v3_large", "hf": f"those of transformers' {', '.join(FAMILIES)}"}
    others["libreyolo"] = "its own, such as config: {model: yolov9, size: t}"
    return [
        {
            "name": name,
            "gives": ", ".join(sorted(adapter.gives)),
            "backbones": others.get(name, ", ".join(BACKBONES)),
        }
        for name, adapter in DETECTORS.items()
    ]


def _formats() -> list[dict[str, Any]]:
    from kdet.data import FORMATS

    return [{"name": name, "expects": form.summary} for name, form in FORMATS.items()]
