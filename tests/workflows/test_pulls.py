"""What an arm's terms weighed and pulled, read back from logs that are known."""

import json
from pathlib import Path
from typing import Any

import pytest
from compare_cases import Here, recipe_in

from kdet.workflows.compare.arms import arms_of
from kdet.workflows.compare.gradients import straw_men, terms_of
from kdet.workflows.compare.run import compare, table

ARMS = {
    "strong": [{"method": "l2", "weight": 1.0}, {"method": "structural", "weight": "auto", "ratio": 2.0}],
    "nothing": [{"method": "structural", "weight": 0.0, "placebo": True}],
}


def logged(folder: Path, shares: list[float], weights: dict[str, float]) -> Path:
    """A run that measured these pulls of l2, one a record, and ended with these weights."""
    folder.mkdir(parents=True)
    records: list[dict[str, Any]] = [
        {"kind": "step", "step": n, "epoch": 0, "lr": 0.1, "total": 1.0, "parts": {}, "weights": weights}
        | {"gradients": {"l2": {"ratio": share, "cosine": 0.0}, "structural": {"ratio": 2.0, "cosine": 0.0}}}
        for n, share in enumerate(shares, start=1)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_pull_is_the_median_over_all_runs_and_auto_has_its_last_weights(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, arms=ARMS)
    strong = arms_of(recipe, ["strong"])[1]
    first = logged(tmp_path / "a", [200.0, 0.0, 100.0], {"structural/8": 1.0, "structural/16": 3.0})  # 0: no object
    second = logged(tmp_path / "b", [40.0], {"structural/8": 2.0, "structural/16": 5.0})
    assert terms_of(recipe, strong, [first, second]) == {
        "l2": {"weight": 1.0, "ratio": None, "placebo": False, "weights": {}, "pull": 100.0},
        "structural": {
            "weight": "auto",
            "ratio": 2.0,
            "placebo": False,
            "weights": {"structural/8": 1.5, "structural/16": 4.0},
            "pull": 2.0,
        },
    }


def test_none_has_no_terms_and_a_run_without_measurements_no_pull(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, arms=ARMS)
    none, strong = arms_of(recipe, ["strong"])
    empty = logged(tmp_path / "a", [], {})
    assert terms_of(recipe, none, [empty]) == {}
    assert terms_of(recipe, strong, [empty])["l2"]["pull"] is None


def test_terms_of_several_teachers_have_the_names_of_the_log_and_the_teachers_weight(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, distill=[{"method": "l2", "weight": 2.0}])
    one = recipe.teachers[0]
    both = [one.model_copy(update={"name": "big", "weight": 0.5}), one.model_copy(update={"name": "old"})]
    recipe = recipe.model_copy(update={"teacher": both})
    found = terms_of(recipe, arms_of(recipe, ["l2"])[1], [])
    assert {name: term["weight"] for name, term in found.items()} == {"big/l2": 1.0, "old/l2": 2.0}


@pytest.mark.parametrize(
    ("weight", "pull", "named"),
    [
        (1.0, 174.0, True),
        (1.0, 30.1, True),
        (1.0, 29.9, False),
        (1.0, 0.051, False),
        (1.0, 0.049, True),
        ("auto", 174.0, False),
        (1.0, None, False),
    ],
)
def test_a_fixed_weight_outside_the_usual_pull_is_named(weight: Any, pull: float | None, named: bool) -> None:
    term = {"weight": weight, "ratio": 3.0, "placebo": False, "weights": {}, "pull": pull}
    found = straw_men({"none": {}, "l2": {"l2": term}})
    assert len(found) == named
    if named:
        assert found[0].startswith(f"arm l2: l2 pulled {pull:.3g} times as hard as the task at weight 1 ")
    assert straw_men({"nothing": {"l2": term | {"placebo": True}}}) == []


@pytest.mark.long
def test_plain_l2_at_weight_one_is_named_by_a_whole_comparison(tmp_path: Path) -> None:
    """The straw man of the documentation's first command, before bare arms took auto."""
    recipe = recipe_in(tmp_path, distill=[{"method": "lp", "weight": 1e4, "p": 2}], train={"epochs": 1})
    with Here() as pool:
        result = compare(recipe, ["lp", "pkd"], num_seeds=1, out=tmp_path / "out", pool=pool)
    assert len(result["warnings"]) == 1 and result["warnings"][0].startswith("arm lp: lp pulled")
    assert result["warnings"][0] in table(result) and "lp pulled" in (tmp_path / "out" / "index.html").read_text()
