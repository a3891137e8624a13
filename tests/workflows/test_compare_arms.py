"""Names of arms, and that their runs differ in nothing but what they distil."""

from pathlib import Path

import pytest
import torch
from compare_cases import PLACEBO, recipe_in, teacher_of

from fakes import same_state, state_of
from kdet.distill import Distiller
from kdet.errors import InputError
from kdet.train import Recipe
from kdet.train.build import build_distiller, build_student
from kdet.train.data import open_data
from kdet.train.recipe.models import TermRecipe
from kdet.train.teaching.teachers import make_terms
from kdet.workflows.compare.arms import arms_of, recipe_for, require_buildable
from kdet.workflows.compare.rounds import train_one


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    terms = [{"method": "structural", "weight": 7.0, "window": 5}, {"method": "pkd", "name": "correlation"}]
    return recipe_in(tmp_path, distill=terms, arms=PLACEBO | {"l2": [{"method": "l2", "weight": 0.001}]})


def methods(recipe: Recipe, *names: str) -> dict[str, list[str]]:
    return {arm.name: [term.method for term in arm.terms] for arm in arms_of(recipe, names)}


def test_names(recipe: Recipe) -> None:
    found = methods(recipe, "l2", "none", "rm+pfi", "all", "structural", "pkd+cwd", "placebo")
    assert found == {
        "l2": ["l2"],
        "none": [],
        "rm+pfi": ["rank_mimicking", "prediction_guided"],
        "all": ["structural", "rank_mimicking", "prediction_guided"],
        "structural": ["structural"],
        "pkd+cwd": ["pkd", "cwd"],
        "placebo": ["structural"],
    }


def test_none_is_there_though_nobody_asked(recipe: Recipe) -> None:
    assert list(methods(recipe, "structural")) == ["none", "structural"]


def test_options_of_the_recipe_hold_in_every_arm_and_defaults_elsewhere(recipe: Recipe) -> None:
    _, structural, everything, l2, cwd = arms_of(recipe, ["structural", "all", "l2", "cwd"])
    assert structural.terms == (TermRecipe(method="structural", weight=7.0, window=5),) == everything.terms[:1]
    assert everything.terms[1] == TermRecipe(method="rank_mimicking")
    assert l2.terms[0].weight == 0.001 and cwd.terms == (TermRecipe(method="cwd"),)


def test_an_arm_without_a_weight_in_the_recipe_has_its_weight_measured(recipe: Recipe) -> None:
    bare = recipe.model_copy(update={"distill": [], "arms": {}})
    for name in ("l2", "structural", "rm+pfi"):
        arm = arms_of(bare, [name])[1]
        assert {term.weight for term in make_terms(recipe_for(bare, arm, 0).distill)} == {"auto"}


def test_a_placebo_knows_that_it_is_one(recipe: Recipe) -> None:
    assert [arm.placebo for arm in arms_of(recipe, ["placebo", "structural"])] == [False, True, False]


def test_runs_differ_in_teacher_and_terms_alone(recipe: Recipe) -> None:
    inheriting = recipe.model_copy(update={"student": recipe.student.model_copy(update={"inherit": "neck"})})
    none, structural, placebo = (
        recipe_for(inheriting, arm, 4) for arm in arms_of(inheriting, ["structural", "placebo"])
    )
    assert none.data == structural.data and none.train == structural.train == placebo.train
    assert none.train.seed == 4 and not structural.arms
    assert none.teacher is None and not none.distill and none.student == recipe.student
    assert structural.teacher == placebo.teacher == recipe.teacher and structural.student.inherit == "neck"
    assert placebo.distill != structural.distill


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["structual"], "'structual' is neither a method nor under `arms:`; did you mean 'structural'"),
        (["none", "rm+nothing"], "'nothing' is neither"),
        (["l2", "l2"], "'l2' is given twice"),
        (["rm+rank_mimicking"], "names a method twice"),
        (["none"], "nothing to compare with `none`"),
        ([], "nothing to compare with `none`"),
    ],
)
def test_wrong_names(recipe: Recipe, names: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        arms_of(recipe, names)


def test_no_teacher_to_distil_from(recipe: Recipe) -> None:
    with pytest.raises(InputError, match="no `teacher:`"):
        arms_of(recipe.alone(), ["structural"])


def test_a_teacher_that_is_not_trained_yet_says_what_to_run(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, teacher={"run": "runs/none-yet"})
    with pytest.raises(InputError, match=r"train it first: kdet train .* --run runs/none-yet"):
        require_buildable(recipe, arms_of(recipe, ["structural"]))


def test_an_arm_that_cannot_be_built_is_named_before_anything_runs(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, arms={"mine": [{"method": "structural", "windw": 3}]})
    with pytest.raises(InputError, match=r"arm mine: .*no option 'windw'; did you mean 'window'"):
        require_buildable(recipe, arms_of(recipe, ["l2", "mine"]))
    with pytest.raises(InputError, match="arm ld: "):
        require_buildable(recipe, arms_of(recipe, ["ld"]))


@pytest.mark.parametrize(
    ("arms", "line"),
    [
        ({"none": [{"method": "l2"}]}, "give this arm another name"),
        ({"a/b": [{"method": "l2"}]}, "pattern"),
        ({"mine": []}, "arms: mine: no terms, so nothing to learn from"),
    ],
)
def test_arms_of_a_recipe_are_checked(tmp_path: Path, arms: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        recipe_in(tmp_path, arms=arms)


def test_arms_need_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="arms: need a teacher"):
        recipe_in(tmp_path, arms=PLACEBO, teacher=None, distill=None)


def test_a_fair_start_lets_none_begin_where_the_others_do(tmp_path: Path) -> None:
    """And learn nothing of the teacher."""
    teacher = {"run": str(teacher_of(tmp_path / "like", width=0.25, fpn_channels=32))}
    recipe = recipe_in(tmp_path, teacher=teacher, student={"inherit": "neck"})
    none, structural = arms_of(recipe, ["structural"])
    starts = {
        (arm.name, fair): state_of(built(recipe_for(recipe, arm, 4, fair_start=fair)).model)
        for arm in (none, structural)
        for fair in (False, True)
    }
    assert same_state(starts["none", True], starts["structural", True])
    assert same_state(starts["structural", False], starts["structural", True])
    apart = [key for key, value in starts["none", False].items() if not torch.equal(value, starts["none", True][key])]
    assert apart and all(key.startswith("backbone.fpn") for key in apart)
    alone = built(recipe_for(recipe, none, 4, fair_start=True))
    assert alone.criterion is None and alone.teacher is None


def built(recipe: Recipe) -> Distiller:
    classes = open_data(recipe).train.index.classes
    torch.manual_seed(recipe.train.seed)
    return build_distiller(recipe, build_student(recipe, classes, print), classes, print)


def test_a_fair_start_without_anything_to_inherit_is_refused(recipe: Recipe) -> None:
    with pytest.raises(InputError, match=r"--fair-start: .* all arms start alike"):
        require_buildable(recipe, arms_of(recipe, ["structural"]), fair_start=True)


def test_a_run_that_starts_from_its_teacher_and_learns_nothing_else(tmp_path: Path) -> None:
    teacher = {"run": str(teacher_of(tmp_path / "like", width=0.25, fpn_channels=32))}
    recipe = recipe_in(tmp_path, teacher=teacher, student={"inherit": "neck"}, train={"epochs": 1})
    fair = recipe_for(recipe, arms_of(recipe, ["structural"])[0], 0, fair_start=True)
    train_one(fair, tmp_path / "run")
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert "inherited from the teacher" in log and "nothing else is learned from the teacher" in log
    assert not (tmp_path / "run" / "teacher.json").exists()
