"""Arms of a comparison: names → what each distils; the runs of all arms differ in nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdet.distill import METHODS
from kdet.errors import InputError
from kdet.train import Recipe
from kdet.train.data import open_data, require_prepared
from kdet.train.prepare import prepare
from kdet.train.recipe.file import nearest
from kdet.train.recipe.models import RunTeacher, TermRecipe
from kdet.train.teaching.teachers import require_trained

NONE = "none"
"""The student without a teacher; gains are against it."""
_ALL = ("structural", "rank_mimicking", "prediction_guided")
_SHORT = {"rm": "rank_mimicking", "pfi": "prediction_guided"}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train the student."""

    name: str
    terms: tuple[TermRecipe, ...]
    """Empty: without a teacher, or with nothing of it but its boxes on unlabelled images."""
    times: int = 1
    """How many times the optimizer steps of the others it takes; more than once is a baseline, the student alone."""

    @property
    def alone(self) -> bool:
        """Whether it is the student without anything of a teacher."""
        return self.name == NONE or self.times > 1

    @property
    def placebo(self) -> bool:
        """Whether it is meant to do nothing."""
        return bool(self.terms) and all(term.placebo for term in self.terms)


def arms_of(recipe: Recipe, names: Sequence[str], longer: Sequence[int] = ()) -> list[Arm]:
    """Return the arms by these names, `none` before them in any case, and behind them the student alone for longer.

    Args:
        recipe: a term of its `distill:` stands for its method in every arm, with its options and weight.
        names: none, all, methods joined by `+` (rm and pfi for short), or keys of the recipe's `arms:`.
        longer: how many times as long, each above 1: `none-x2`, `none-x4`.

    Raises:
        InputError: an unknown name, one given twice, or nothing to compare with `none`.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--arms: {twice[0]!r} is given twice")
    asked = [NONE, *(name for name in names if name != NONE)]
    if len(asked) < 2:
        raise InputError(f"--arms: nothing to compare with `none`; name an arm, such as {'+'.join(_SHORT)}")
    if recipe.teacher is None and recipe.data.unlabelled is None:
        raise InputError("the recipe has no `teacher:` to distil from; add `teacher: {run: …}`")
    if wrong := sorted(times for times in longer if times < 2 or longer.count(times) > 1):
        raise InputError(f"--longer {wrong[0]}: expected whole numbers above 1, each once, such as 2,4")
    alone = [Arm(name=f"{NONE}-x{times}", terms=(), times=times) for times in sorted(longer)]
    if taken := [arm.name for arm in alone if arm.name in asked]:
        raise InputError(f"--longer: the recipe has an arm {taken[0]!r} of its own; give that one another name")
    return [*(Arm(name=name, terms=_terms(recipe, name)) for name in asked), *alone]


def usual_arms(recipe: Recipe) -> list[str]:
    """Return the arms of the recipe where it names any, else a few that most pairs can serve."""
    return [NONE, *recipe.arms] if recipe.arms else [NONE, "l2", "structural", "rm+pfi", "all"]


def recipe_for(recipe: Recipe, arm: Arm, seed: int, *, fair_start: bool = False) -> Recipe:
    """Return what one run of an arm is made with; the same data, student, order, augmentation and steps in every arm.

    But for the arms that take `times` as many steps; their first epochs have the same images in the same order.

    Args:
        recipe: of the comparison.
        arm: one of its arms.
        seed: of the run.
        fair_start: whether `none` starts from the teacher's weights as the others do, where the recipe says `inherit:`.
    """
    train = recipe.train.stretched(arm.times).model_copy(update={"seed": seed})
    common = recipe.model_copy(update={"train": train, "arms": {}, "expected": {}})
    if arm.alone:
        return common.alone(inherit=fair_start)
    return common.model_copy(update={"distill": list(arm.terms)}) if arm.terms else common.boxes_only()


def require_buildable(recipe: Recipe, arms: Sequence[Arm], *, fair_start: bool = False) -> None:
    """Build every arm once, so that a mistake in the last one costs seconds and not the runs before it.

    Raises:
        InputError: nothing to start fair from, no teacher yet, an unknown option, or a pair of detectors that cannot
            serve an arm.
    """
    if fair_start and not recipe.student.inherit:
        raise InputError("--fair-start: the recipe has no `student: inherit:`, so all arms start alike; leave it out")
    require_prepared(recipe.data, "train", "val")
    for teacher in recipe.teachers:
        if isinstance(teacher, RunTeacher):
            require_trained(teacher)
    splits = open_data(recipe)
    for arm in arms:
        own = recipe_for(recipe, arm, recipe.train.seed, fair_start=fair_start)
        try:
            prepare(own, splits=splits)
        except InputError as error:
            raise InputError(f"arm {arm.name}: {error}") from None


def _terms(recipe: Recipe, name: str) -> tuple[TermRecipe, ...]:
    if name == NONE:
        return ()
    if name in recipe.arms:
        return tuple(recipe.arms[name])
    methods = _ALL if name == "all" else tuple(_SHORT.get(part, part) for part in name.split("+"))
    if unknown := [method for method in methods if method not in METHODS]:
        known = [NONE, "all", *recipe.arms, *_SHORT, *METHODS]
        raise InputError(f"--arms: {unknown[0]!r} is neither a method nor under `arms:`; {nearest(unknown[0], known)}")
    if len(set(methods)) < len(methods):
        raise InputError(f"--arms: {name!r} names a method twice")
    return tuple(term for method in methods for term in _own_terms(recipe, method))


def _own_terms(recipe: Recipe, method: str) -> list[TermRecipe]:
    own = [term for term in recipe.distill if term.method == method]
    return own or [TermRecipe(method=method)]
