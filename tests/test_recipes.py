"""Every recipe that is shipped: it reads, it builds, it says how to run it, and the small ones really train."""

import json
import shlex
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kdet.data import Shapes
from kdet.detectors import ALLOWED
from kdet.train import Recipe, fit, read_recipe
from kdet.train.build import build_student
from kdet.train.recipe.models import RunTeacher
from kdet.workflows.compare.arms import arms_of, require_buildable
from suites import quick

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data"
ALL = sorted((ROOT / "recipes").rglob("*.yaml"))
COMPARED = [path for path in ALL if path.parent.name == "compare"]
SMALL = [path for path in ALL if path.parent.name not in ("coco", "compare", "papers")]
"""Those of papers/ have their own tests."""
DISTILLED = [path for path in SMALL if "distill" in yaml.safe_load(path.read_text())]
"""Distilled on a CPU; the other small ones train a teacher or the student alone."""
PAIRS = [path for path in DISTILLED if path.parent.name == "pairs"]
GENERATED = ("shapes", "pairs")

OFFLINE = ("student.backbone_weights=null", "student.norm=batch")
"""A COCO recipe without its download; norms cannot be frozen on random weights."""
TWO_STEPS = ("train.max_steps=2", "train.batch_size=2", "train.evaluate_every=0", "train.workers=0")
SMALL_IMAGES = "data.image_size=128"
FEW_SHAPES = ("data.images=6", "data.val_images=3")


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def every(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


@pytest.fixture(scope="module", autouse=True)
def own_code() -> Iterator[None]:
    """recipes/pairs/own_module.py is found from the root, and may run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv(ALLOWED, "1")
        yield


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, ...]]:
    """Overrides that point a recipe to a handful of its own images; skips where the images are absent."""

    def overrides(data_set: str) -> tuple[str, ...]:
        if data_set in GENERATED:
            return FEW_SHAPES
        source = REAL / data_set
        if not source.is_dir():
            pytest.skip(f"real data set {data_set} is not at {source}")
        files = {split: tmp_path_factory.mktemp(data_set) / f"{split}.json" for split in ("train", "val")}
        for split, file in files.items():
            whole = json.loads((source / f"annotations_{split}.json").read_text())
            file.write_text(json.dumps(first_images(whole, 3)))
        paths = (f"data.{split}={file}" for split, file in files.items())
        return (*paths, f"data.images={source / 'images'}", SMALL_IMAGES)

    return overrides


def first_images(whole: dict[str, Any], count: int) -> dict[str, Any]:
    """A COCO file cut down to the first images that hold an object."""
    annotated = {a["image_id"] for a in whole["annotations"]}
    images = [image for image in whole["images"] if image["id"] in annotated][:count]
    kept = {image["id"] for image in images}
    return whole | {"images": images, "annotations": [a for a in whole["annotations"] if a["image_id"] in kept]}


@pytest.fixture(scope="module")
def teacher_of(
    tmp_path_factory: pytest.TempPathFactory, few: Callable[[str], tuple[str, ...]]
) -> Callable[[Path], Path]:
    """The run folder of a student recipe's teacher, trained for one step by the teacher's own recipe."""
    made: dict[Path, Path] = {}

    def teacher(student: Path) -> Path:
        recipe = teacher_recipe(student)
        if recipe not in made:
            folder = tmp_path_factory.mktemp("teacher") / "run"
            settings = (*few(student.parent.name), *TWO_STEPS, "train.max_steps=1")
            made[recipe] = fit(read_recipe(recipe, settings), folder).folder
        return made[recipe]

    return teacher


def teacher_recipe(student: Path) -> Path:
    """The recipe whose command makes the run folder that a student's recipe names."""
    wanted = read_recipe(student).teacher
    assert isinstance(wanted, RunTeacher)
    makers = [path for path in student.parent.glob("*.yaml") if run_of(path) == str(wanted.run)]
    assert len(makers) == 1, f"{student}: expected one recipe that makes {wanted.run}, got {makers}"
    return makers[0]


def command_of(path: Path) -> list[str]:
    """The words of the command in a recipe's first line."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# kdet "), first
    return shlex.split(first.removeprefix("# "))


def run_of(path: Path) -> str:
    """The run folder that a recipe's command names."""
    words = command_of(path)
    return words[words.index("--run") + 1] if "--run" in words else words[-1]


def classes_of(recipe: Recipe) -> list[str]:
    """As many names as the data would bring; the names do not matter here."""
    count = recipe.data.classes if recipe.data.format == "shapes" else 80
    return [f"class {i}" for i in range(count)]


def test_there_are_recipes_for_every_data_set():
    assert {path.parent.name for path in ALL} == {"aquarium", "bccd", "coco", "compare", "pairs", "papers", "shapes"}


@every([path for path in ALL if path not in COMPARED and path.parent.name != "papers"])
def test_says_how_to_run_it(path):
    kdet, command, file, flag, folder, *more = command_of(path)
    assert (kdet, ROOT / file, flag) == ("kdet", path, "--run")
    assert more == (["--allow-code"] if "own" in path.stem else [])
    assert command == ("train" if read_recipe(path).teacher is None else "distill")
    assert Path(folder).parts[0] == "runs"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(files("kdet").joinpath("recipe.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", quick(ALL, lambda path: path.parent.name != "papers"), ids=name_of)
def test_an_editor_finds_no_fault_with_it(path, schema):
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)


def test_an_editor_finds_a_wrong_word(schema):
    content = yaml.safe_load((ROOT / "recipes/shapes/structural.yaml").read_text(encoding="utf-8"))
    for wrong in ({"studnet": {}}, {"distill": [{"method": "structral"}]}, {"student": {"backbone": "resnet18"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | wrong, schema)


@every(COMPARED)
def test_comparisons_name_arms_that_can_be_built(path, teacher_of):
    words = command_of(path)
    assert words[:2] == ["kdet", "compare"] and ROOT / words[2] == path
    own = (
        () if path.stem == "random_teacher" else (f"teacher.run={teacher_of(ROOT / 'recipes/shapes/structural.yaml')}",)
    )
    recipe = read_recipe(path, (*FEW_SHAPES, *own))
    arms = arms_of(recipe, words[words.index("--arms") + 1].split(","))
    require_buildable(recipe, arms)
    assert [arm.name for arm in arms if arm.placebo] == (["placebo"] if own else [])


@pytest.mark.parametrize("folder", ["aquarium", "bccd", "coco", "pairs", "shapes"])
def test_no_two_recipes_share_a_run_folder(folder):
    names = [run_of(path) for path in ALL if path.parent.name == folder]
    assert len(set(names)) == len(names)


@every([path for path in ALL if path.parent.name != "papers"])
def test_builds_its_student(path):
    recipe = read_recipe(path, OFFLINE if path.parent.name in ("coco", "papers") else ())
    student = build_student(recipe, classes_of(recipe), print)
    assert student.family == ("Own" if recipe.student.factory else recipe.student.detector)
    assert any(parameter.requires_grad for parameter in student.model.parameters())


@every([path for path in ALL if path.parent.name == "coco"])
def test_coco_recipes_state_the_papers_setup(path):
    recipe = read_recipe(path)
    assert recipe.data.image_size == (800, 1333)
    assert recipe.student.backbone_weights == "ResNet50_Weights.IMAGENET1K_V1"
    assert (recipe.student.norm, recipe.student.trainable_layers) == ("frozen", 3)
    assert (recipe.train.optimizer, recipe.train.lr_schedule) == ("sgd", "step")
    assert (recipe.train.epochs, recipe.train.batch_size) == (12, 16)
    assert recipe.train.lr == (0.02 if recipe.student.detector == "faster_rcnn" else 0.01)


@pytest.mark.parametrize("folder", ["aquarium", "bccd", "shapes"])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_all_arms_have_one_student_and_one_budget(folder, detector):
    recipes = [read_recipe(path) for path in ALL if path.parent.name == folder and "teacher" not in path.stem]
    arms = [recipe for recipe in recipes if recipe.student.detector == detector]
    for arm in arms:
        assert (arm.data, arm.student, arm.train) == (arms[0].data, arms[0].student, arms[0].train)


@every(DISTILLED)
def test_teacher_sees_the_data_of_its_student(path):
    teacher, student = read_recipe(teacher_recipe(path)), read_recipe(path)
    if path in PAIRS:
        return  # there a teacher of other classes or sizes is the point
    assert teacher.data == student.data
    assert teacher.student.anchor_scale == student.student.anchor_scale  # rank mimicking compares the same anchors


@pytest.mark.long
@every([path for path in SMALL if path not in DISTILLED])
def test_trains_alone(path, few, tmp_path):
    outcome = fit(read_recipe(path, (*few(path.parent.name), *TWO_STEPS)), tmp_path / "run")
    assert outcome.steps == 2
    assert (tmp_path / "run" / "student.safetensors").is_file()


@pytest.mark.long
@every(DISTILLED)
def test_distils(path, few, teacher_of, tmp_path):
    settings = (*few(path.parent.name), *TWO_STEPS, f"teacher.run={teacher_of(path)}")
    outcome = fit(read_recipe(path, settings), tmp_path / "run")
    assert outcome.steps == 2
    first = next(r for r in records(tmp_path / "run") if "parts" in r)
    assert {term.method for term in read_recipe(path).distill} <= set(first["parts"])


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_shapes_recipes_state_every_image_that_the_generator_makes():
    for path in (path for path in ALL if path.parent.name == "shapes"):
        data = yaml.safe_load(path.read_text())["data"]
        assert Shapes(**{key: value for key, value in data.items() if key != "format"}).images == 2000
