"""Recipes: every mistake is one line with file, line number and the nearest right word."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import tiny_recipe, write_yaml
from kdet.errors import InputError
from kdet.train import Recipe, read_recipe, write_recipe
from kdet.train.recipe.models import TermRecipe
from kdet.train.teaching.teachers import make_terms

TEXT = """\
data: {format: shapes, images: 8, image_size: 64}
student:
  detector: retinanet
  backbone: resnet10
teacher: {run: runs/teacher}
distill:
  - {method: structural, weight: 2}
  - method: lp
    p: 1
train:
  epochs: 3
  lr: 0.01
"""


def complaint(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    """The one line about a wrong recipe, without the folder."""
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("  epochs: 3", "  epoch: 3", "r.yaml:11: unknown key 'train.epoch'; did you mean 'epochs'?"),
        (
            "  backbone: resnet10",
            "  backbones: x",
            "r.yaml:4: unknown key 'student.backbones'; did you mean 'backbone'?",
        ),
        (
            "  detector: retinanet",
            "  detectr: fcos",
            "r.yaml:3: unknown key 'student.detectr'; did you mean 'detector'?",
        ),
        ("images: 8", "imges: 8", "r.yaml:1: unknown key 'data.imges'; did you mean 'images'?"),
        ("train:", "tain:", "r.yaml:10: unknown key 'tain'; did you mean 'train'?"),
        ("{run: runs/teacher}", "{runn: runs/t}", "r.yaml:5: unknown key 'teacher.runn'; did you mean 'run'?"),
        (
            "{run: runs/teacher}",
            "{detector: fcos, wieghts: a.pth}",
            "r.yaml:5: unknown key 'teacher.wieghts'; did you mean 'weights'?",
        ),
        ("  lr: 0.01", "  zzz: 1", "r.yaml:12: unknown key 'train.zzz'; known: accumulate, "),
        ("  lr: 0.01", "  lr: fast", "r.yaml:12: train.lr: "),
        ("  lr: 0.01", "  lr: -1", "r.yaml:12: train.lr: Input should be greater than 0"),
        ("  lr: 0.01", "  epochs: 4", "r.yaml:12: key 'epochs' stands twice"),
        ("  lr: 0.01", "  optimizer: adam", "r.yaml:12: train.optimizer: Input should be 'sgd' or 'adamw'"),
        ("format: shapes", "format: cocoo", "r.yaml:1: data: "),
        ("  - method: lp", "  - methd: lp", "r.yaml:8: distill.1.method: "),
        ("image_size: 64", "image_size: 4", "r.yaml:1: data: shapes image_size: expected 16…4096 pixels, got 4"),
        ("  backbone: resnet10", "   backbone: [", "r.yaml:"),
        ("teacher: {run: runs/teacher}\n", "", "distill: needs a teacher"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in TEXT
    assert message in complaint(tmp_path, TEXT.replace(right, wrong))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: expected keys such as data, student, train; got NoneType"),
        ("- a\n- b\n", "r.yaml: expected keys such as data, student, train; got list"),
        ("a: &x [*x]\n", "r.yaml"),
        ("data: !!python/object/apply:os.system ['touch pwned']\n", "r.yaml:1: "),
        ("\x00", "r.yaml: not a YAML file"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in complaint(tmp_path, text)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such recipe"):
        read_recipe(tmp_path / "nowhere.yaml")


def read(tmp_path: Path, *overrides: str) -> Recipe:
    (tmp_path / "r.yaml").write_text(TEXT, encoding="utf-8")
    return read_recipe(tmp_path / "r.yaml", overrides)


@pytest.mark.parametrize(
    ("override", "value_of", "value"),
    [
        ("train.lr=0.5", lambda r: r.train.lr, 0.5),
        ("train.seed=3", lambda r: r.train.seed, 3),
        ("distill.0.weight=7", lambda r: r.distill[0].weight, 7),
        ("distill.1.p=2", lambda r: r.distill[1].model_extra, {"p": 2}),
        ("student.backbone=null", lambda r: r.student.backbone, None),
        ("data.scale=[0.2, 0.5]", lambda r: r.data.scale, (0.2, 0.5)),
        ("distill=[{method: l2}]", lambda r: [t.method for t in r.distill], ["l2"]),
        ("teacher.run=other", lambda r: r.teacher.run, Path("other")),
    ],
)
def test_an_override_reaches_any_key(tmp_path: Path, override: str, value_of: Any, value: object) -> None:
    assert value_of(read(tmp_path, override)) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "-o train.lr: expected key=value, such as train.lr=0.01"),
        ("distill.9.weight=1", "-o distill.9.weight=1: there is no such place"),
        ("train.lr.deep=1", "-o train.lr.deep=1: there is no such place"),
        ("train.epochz=1", "unknown key 'train.epochz'; did you mean 'epochs'?"),
        ("train.lr=slow", "train.lr: "),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    assert message in complaint(tmp_path, TEXT, (override,))


def test_the_resolved_recipe_says_everything_and_reads_back_the_same(tmp_path: Path) -> None:
    recipe = read(tmp_path, "train.max_steps=5", "data.augment={}")
    write_recipe(recipe, tmp_path / "resolved.yaml")
    again = read_recipe(tmp_path / "resolved.yaml")
    assert again == recipe
    spelt_out = yaml.safe_load((tmp_path / "resolved.yaml").read_text())
    assert set(spelt_out["train"]) == set(type(recipe.train).model_fields)
    assert set(spelt_out["student"]) == set(type(recipe.student).model_fields)
    assert spelt_out["distill"][1]["p"] == 1


def test_a_recipe_on_files_reads_back_the_same(tmp_path: Path) -> None:
    data = {"format": "coco", "train": "a.json", "val": "b.json", "image_size": [800, 1333]}
    content = tiny_recipe() | {
        "data": data,
        "teacher": {"detector": "fcos", "weights": "w.pth", "class_map": {"a": "b"}},
    }
    recipe = read_recipe(
        write_yaml(tmp_path / "r.yaml", content | {"distill": [{"method": "l2", "schedule": {"stop": 0.5}}]})
    )
    write_recipe(recipe, tmp_path / "resolved.yaml")
    assert read_recipe(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"method": "structurl"}, r"unknown method 'structurl'; did you mean 'structural'\?"),
        ({"method": "zzz"}, r"unknown method 'zzz'; known: structural, rank_mimicking, prediction_guided, l2, lp, "),
        ({"method": "structural", "windw": 7}, r"structural has no option 'windw'; did you mean 'window'\?"),
        ({"method": "lp", "p": 3}, r"lp\.p: Input should be 1 or 2"),
        ({"method": "structural", "window": "wide"}, r"structural\.window: "),
        ({"method": "l2", "schedule": {"warmup": 0.6, "stop": 0.5}}, r"l2: expected 0 ≤ warmup ≤ stop ≤ 1"),
    ],
)
def test_wrong_terms_are_named(term: dict[str, Any], message: str) -> None:
    recipe = Recipe.model_validate(tiny_recipe(teacher={"run": "t"}) | {"distill": [term]})
    with pytest.raises(InputError, match=message) as caught:
        make_terms(recipe.distill)
    assert "\n" not in str(caught.value)


def test_a_key_that_has_another_name_now_is_refused_with_it(tmp_path: Path) -> None:
    recipe = tiny_recipe(teacher={"run": "t"}) | {"distill": [{"method": "l2", "share": 3}]}
    with pytest.raises(InputError, match=r"distill.*share: is called `ratio` now"):
        read_recipe(write_yaml(tmp_path / "recipe.yaml", recipe))


def test_levels_are_the_methods_own_unless_the_recipe_names_some() -> None:
    written = [TermRecipe(method="pkd"), TermRecipe(method="pkd", strides=[8, 128])]
    assert [(term.strides, term.finest) for term in make_terms(written)] == [(None, 4), ((8, 128), 4)]
    assert [term.finest for term in make_terms([TermRecipe(method="pkd", finest=None)])] == [None]


def test_a_published_weight_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="distill: l2: no weight of l2 was published"):
        make_terms([TermRecipe(method="l2", weight="published")])


def test_terms_take_name_weight_schedule_and_options_from_the_recipe() -> None:
    written = [
        {"method": "structural", "weight": 2.5, "name": "mine", "window": 7, "schedule": {"warmup": 0.1}},
        {"method": "rank_mimicking", "weight": "published", "rank_by": "both", "placebo": True},
        {"method": "lp"},
    ]
    recipe = Recipe.model_validate(tiny_recipe(teacher={"run": "t"}) | {"distill": written})
    terms = make_terms(recipe.distill)
    assert [(t.name, t.weight, t.placebo) for t in terms] == [
        ("mine", 2.5, False),
        ("rank_mimicking", 2.0, True),
        ("rank_mimicking_box", 2.0, True),
        ("lp", "auto", False),
    ]
    assert terms[0].schedule.warmup == 0.1
    assert terms[0].loss.keywords["window"] == 7  # type: ignore[attr-defined]


def test_on_is_a_word_and_no_truth_value(tmp_path: Path) -> None:
    """YAML 1.1 would read the key as true."""
    path = tmp_path / "r.yaml"
    path.write_text(
        TEXT.replace("- method: lp", "- {method: soft_labels, on: regions}\n  - method: lp"), encoding="utf-8"
    )
    recipe = read_recipe(path, ["distill.0.on=no", "distill.0.placebo=true"])
    found = next(term for term in recipe.distill if term.method == "soft_labels")
    assert found.model_extra == {"on": "regions"}
    assert recipe.distill[0].model_extra["on"] == "no" and recipe.distill[0].placebo is True


@pytest.mark.parametrize(
    ("capability", "size", "detector", "expected"),
    [
        ("AVX512", 96, "retinanet", "bf16-mixed"),
        ("AVX2", 96, "retinanet", "fp32"),
        ("AVX512", 64, "retinanet", "fp32"),  # P6 is a single cell
        ("AVX512", [32, 64], "gfl", "fp32"),
        ("AVX512", [64, 96], "gfl", "bf16-mixed"),
        ("AVX512", 64, "faster_rcnn", "bf16-mixed"),  # its coarsest level is no convolution
        ("AVX512", 256, "ssdlite", "fp32"),  # 8, 4, 2 and 1 cells before the last convolution
        ("AVX512", 288, "ssdlite", "bf16-mixed"),  # 9, 5, 3 and 2
    ],
)
def test_precision_auto_is_settled_by_what_the_machine_is_fast_and_right_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capability: str, size: Any, detector: str, expected: str
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    path = tmp_path / "recipe.yaml"
    data = {"format": "coco", "train": "a.json", "val": "b.json", "image_size": size}
    content = {"data": data, "student": {"detector": detector}, "train": {"precision": "auto"}}
    recipe = read_recipe(write_yaml(path, content))
    assert recipe.train.precision == expected
    assert any("is a single cell" in note for note in recipe.notes) == (capability == "AVX512" and expected == "fp32")
