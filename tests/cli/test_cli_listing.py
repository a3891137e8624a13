"""`kdet list` prints what the tables of the code hold, from a file that `make docs` writes; pages say the same."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Command

import kdet
from kdet.detectors import DETECTORS
from kdet.detectors.yolo.libreyolo_models import _BUILDERS
from kdet.types import Need

ROOT = Path(kdet.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    return runpy.run_path(str(DOCS / "write_lists.py"))["lists"]()


def test_the_file_holds_what_the_code_holds(tables: dict[str, list[dict[str, Any]]]) -> None:
    assert json.loads((ROOT / "lists.json").read_text(encoding="utf-8")) == tables, "run `make docs`"


@pytest.mark.parametrize("what", ["methods", "detectors", "formats"])
def test_each_list_is_printed_for_people_and_for_programs(
    kdet: Command, tables: dict[str, list[dict[str, Any]]], what: str
) -> None:
    assert kdet("list", what, "--json").result == {what: tables[what]}
    lines = kdet("list", what).out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *(row["name"] for row in tables[what])]


def test_the_models_of_libreyolo_are_those_that_can_be_built() -> None:
    assert DETECTORS["libreyolo"].keys() == _BUILDERS.keys()


def test_localization_distillation_is_for_the_same_detectors_everywhere(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    (listed,) = (row["detectors"] for row in tables["methods"] if row["name"] == "ld")
    assert listed == "gfl, libreyolo (yolov9)"
    given = {model for models in DETECTORS.values() for model, gives in models.items() if Need.EDGE_LOGITS in gives}
    assert given == {"gfl", "yolov9"}
    rows = (DOCS / "guides" / "yolo.md").read_text(encoding="utf-8").partition("edge distributions (`ld`) |")[2]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rows.splitlines()[2:7]]
    by_name = {name.lower().replace("-", "_"): row[-1] for row in cells for name in row[0].split(", ")}
    ours = {"yolov9": "yolov9", "yolox": "yolox", "rtmdet": "rtmdet", "rt_detrv2": "rt_detr_v2", "d_fine": "d_fine"}
    for written, model in ours.items():
        assert by_name[written].startswith("yes") == (Need.EDGE_LOGITS in DETECTORS["libreyolo"][model]), written
