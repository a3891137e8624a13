"""Teachers of other families than the student's, by recipe."""

from pathlib import Path
from typing import Any

import pytest
from compare_cases import Here

from fakes import tiny, tiny_recipe, write_yaml
from kdet.errors import InputError
from kdet.train import Recipe, read_recipe
from kdet.train.loop import fit
from kdet.train.state.run_folder import save_student
from kdet.workflows.check.run import check
from kdet.workflows.check.text import as_text
from kdet.workflows.compare.run import compare, table

STUDENT = {"detector": "faster_rcnn", "backbone": "resnet10", "width": 0.25, "fpn_channels": 32, "anchor_scale": 0.5}


def recipe_of(teacher: dict[str, Any], *terms: dict[str, Any], **student: Any) -> Recipe:
    """Two steps of a tiny student."""
    content = tiny_recipe(train={"max_steps": 2}, distill=list(terms))
    return Recipe.model_validate(content | {"student": STUDENT | student, "teacher": teacher})


@pytest.mark.parametrize(
    "term", [pytest.param({"method": "structural"}, marks=pytest.mark.long), {"method": "soft_labels", "on": "regions"}]
)
def test_a_cascade_teaches_a_faster_rcnn(term: dict[str, Any], tmp_path: Path) -> None:
    cascade = tiny("cascade_rcnn", image_size=64, width=0.5, fpn_channels=64)
    save_student(cascade, cascade.native_state(), tmp_path / "teacher.safetensors")
    recipe = recipe_of({"run": str(tmp_path / "teacher.safetensors")}, term)
    assert fit(recipe, tmp_path / "run").steps == 2
    log = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert f'"{term["method"]}"' in log and "distillation acts" in log


VIT = {"foundation": "vit_tiny_patch16_224", "options": {"depth": 1, "embed_dim": 16, "num_heads": 1}}
RETINANET = {"detector": "retinanet"}


def test_a_vit_teaches_a_retinanet_and_no_ap_is_measured(tmp_path: Path) -> None:
    recipe = recipe_of(VIT, {"method": "structural"}, **RETINANET)
    assert fit(recipe, tmp_path / "run").steps == 2
    log = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert "distillation acts" in log and "gives features alone, so it has no AP" in log
    assert not (tmp_path / "run" / "teacher.json").exists()
    assert (tmp_path / "run" / "maps" / "maps.json").exists()
    again = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert again.teacher == recipe.teacher


def test_check_skips_the_ap_of_such_a_teacher_and_says_so() -> None:
    report = check(recipe_of(VIT, {"method": "structural"}, **RETINANET))
    assert report.teacher is not None and report.teacher["teacher"] is None and report.teacher["student"]["AP"] >= 0
    assert [problem.text for problem in report.problems if problem.status == "failed"] == [
        "the teacher has random weights and knows nothing; give `teacher: {run: …}` or `weights:`"
    ]
    assert "the teacher gives features alone, so it has no AP" in as_text(report)


def test_compare_needs_no_ap_of_the_teacher(tmp_path: Path) -> None:
    recipe = recipe_of(VIT, {"method": "structural"}, **RETINANET)
    with Here() as pool:
        result = compare(recipe, ["none", "structural"], num_seeds=1, out=tmp_path / "out", pool=pool)
    assert result["teacher"] == {"AP": None}
    assert all(arm["gap_closed"] is None for arm in result["arms"])
    assert "the teacher gives features alone" in table(result)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"foundation": "convnext_atto", "libary": "timm"}, "unknown key 'teacher.libary'; did you mean 'library'?"),
        ({"foundation": "convnext_atto", "classes": []}, "unknown key 'teacher.classes'"),
        ("runs/teacher", "teacher"),
        ({"foundation": "convnext_atto", "library": "torch"}, "teacher.library: Input should be 'timm' or"),
    ],
)
def test_a_mistake_in_it_is_explained_by_its_own_keys(teacher: Any, message: str, tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "r.yaml", tiny_recipe(teacher=teacher, distill=[{"method": "structural"}]))
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
