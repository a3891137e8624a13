"""The card of an exported file: Markdown with what it is, how good, how fast, and where it comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kdet.errors import InputError
from kdet.files import parse_json, read_text
from kdet.report.collect import read_run
from kdet.report.comparison import arms_of_comparison
from kdet.report.page import render
from kdet.report.views import describe

_BACKGROUND = "__background__"


def card(checked: Path, run: Path | None, comparison: Path | None) -> str:
    """Return the card as Markdown.

    Args:
        checked: the file with what was measured.
        run: folder of the run that the weights come from.
        comparison: the compare.json that this run is part of.

    Raises:
        InputError: one of them cannot be read.
    """
    content = _object(checked)
    about = content["about"]
    summary = None if run is None else read_run(run)
    recipe: Mapping[str, Any] = {} if summary is None else summary.recipe
    used = {label for label, name in enumerate(about["class_names"]) if name != _BACKGROUND}
    return render(
        "card.md.j2",
        **content,
        classes=[about["class_names"][label] for label in sorted(used)],
        names=", ".join(f"{label} {about['class_names'][label]}" for label in sorted(used)),
        **{key: ", ".join(f"{value:.3g}" for value in about[key]) for key in ("mean", "std", "fill")},
        description="" if summary is None else describe(summary),
        metrics=None if summary is None else summary.metrics,
        teacher_ap=None if summary is None else summary.teacher_ap,
        gains=[] if comparison is None else arms_of_comparison(comparison),
        distilled=bool(recipe.get("distill")),
        origins=_origins(recipe),
        data=_data(recipe),
        changes=() if summary is None else summary.changes,
        recipe="" if summary is None else summary.recipe_text,
        environment={} if summary is None else summary.environment,
    )


def _object(path: Path) -> dict[str, Any]:
    content = parse_json(read_text(path) or "", str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return cast(dict[str, Any], content)


def _origins(recipe: Mapping[str, Any]) -> list[str]:
    """Weights that were there before: the student's own, and the teachers'."""
    teachers: Any = recipe.get("teacher") if recipe.get("distill") else None
    listed: list[Any] = [recipe.get("student"), *(teachers if isinstance(teachers, list) else [teachers])]
    found: list[str] = []
    for who, model in zip(["student", *["teacher"] * (len(listed) - 1)], listed, strict=True):
        named = cast(Mapping[str, Any], model) if isinstance(model, Mapping) else {}
        for key in ("weights", "backbone_weights", "factory", "foundation"):
            if named.get(key):
                found.append(f"{who}: {named[key]}")
    return found


def _data(recipe: Mapping[str, Any]) -> str:
    data: Any = recipe.get("data") or {}
    if data.get("format") == "shapes":
        return "generated shapes"
    return f"{data.get('train', 'not known')} ({data.get('format', '?')})"
