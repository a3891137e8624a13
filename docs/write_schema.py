"""Write src/kdet/recipe.schema.json, by which editors complete and check recipes: `make docs`."""

import json
import sys
from pathlib import Path
from typing import Any

import kdet
from kdet.detectors import DETECTORS, FACTORY
from kdet.distill import METHODS
from kdet.train import Recipe

FILE = Path(kdet.__file__).parent / "recipe.schema.json"


def main() -> None:
    """Rewrite the file; with --check, fail instead where it is out of date."""
    wanted = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv:
        sys.exit(None if FILE.exists() and FILE.read_text(encoding="utf-8") == wanted else f"{FILE}: run `make docs`")
    FILE.write_text(wanted, encoding="utf-8")


def schema() -> dict[str, Any]:
    """The recipe's own, with the names of methods and detectors."""
    found = Recipe.model_json_schema()
    parts = found["$defs"]
    parts["TermRecipe"]["properties"]["method"]["enum"] = list(METHODS)
    for kind in ("StudentRecipe", "BuiltTeacher"):
        parts[kind]["properties"]["detector"]["enum"] = [*DETECTORS, FACTORY]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


if __name__ == "__main__":
    main()
