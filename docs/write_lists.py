"""Write src/kdet/lists.json, what `kdet list` prints, from the tables of the code: `make docs`.

A list of names needs neither torch nor transformers, and they take seconds to import; so the command reads this file.
"""

import json
import sys
from pathlib import Path
from typing import Any

import kdet
from kdet.data import FORMATS
from kdet.detectors import DETECTORS
from kdet.detectors.hf.families import FAMILIES
from kdet.detectors.plain import BACKBONES, TIMM
from kdet.distill import METHODS
from kdet.types import Need
from kdet.workflows.compatibility import served

FILE = Path(kdet.__file__).parent / "lists.json"
KINDS = ("convnext", "efficientnet", "regnet", "shufflenet")
USUAL_BACKBONES = ", ".join(
    [name for name in BACKBONES if not name.startswith(KINDS)]
    + [f"{kind}_… of torchvision" for kind in KINDS]
    + [f"{TIMM}NAME of timm's convolutional networks"]
)
OTHER_BACKBONES = {
    "ssdlite": "mobilenet_v3_large",
    "hf": f"those of transformers' {', '.join(FAMILIES)}",
    "libreyolo": "its own, such as config: {model: yolov9, size: t}",
}


def main() -> None:
    """Rewrite the file; with --check, fail instead where it is out of date."""
    wanted = json.dumps(lists(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv:
        sys.exit(None if FILE.exists() and FILE.read_text(encoding="utf-8") == wanted else f"{FILE}: run `make docs`")
    FILE.write_text(wanted, encoding="utf-8")


def lists() -> dict[str, list[dict[str, Any]]]:
    """Name of a list → its rows."""
    return {
        "methods": [
            {
                "name": name,
                "weight": method.weight,
                "published": method.published,
                "needs": ", ".join(sorted(frozenset.union(*method.needs()) - {Need.LOSSES})),
                "detectors": served(method),
                "paper": str(method.paper),
            }
            for name, method in METHODS.items()
        ],
        "detectors": [
            {"name": name, "gives": gives(models), "backbones": OTHER_BACKBONES.get(name, USUAL_BACKBONES)}
            for name, models in DETECTORS.items()
        ],
        "formats": [{"name": name, "expects": form.summary} for name, form in FORMATS.items()],
    }


def gives(models: dict[str, frozenset[Need]]) -> str:
    """What all models of a name reveal, then what some do besides."""
    common = frozenset.intersection(*models.values())
    parts = [", ".join(sorted(common))]
    for more in dict.fromkeys(found - common for found in models.values() if found != common):
        names = ", ".join(name for name, found in models.items() if found - common == more)
        parts.append(f"{names} also {', '.join(sorted(more))}")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
