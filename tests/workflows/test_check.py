"""What `kdet check` says of a sound recipe and of doubtful ones, and that it changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from check_cases import failed, recipe_of, save, warned
from PIL import Image

from fakes import CLASSES, same_state, state_of, tiny_recipe
from kdet.distill.preflight.proof import state_hash
from kdet.errors import InputError
from kdet.train import Recipe
from kdet.workflows.check.report import Report
from kdet.workflows.check.run import Probe, check, probe, report_on
from kdet.workflows.check.text import as_text

SECTIONS = {"data", "classes", "levels", "memory", "step", "teacher", "terms", "problems"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """A recipe's parts with nothing wrong but that the teacher is untrained."""
    folder = tmp_path_factory.mktemp("check")
    return probe(recipe_of(folder, {"method": "structural", "weight": "published"}, {"method": "l2"}))


@pytest.fixture(scope="module")
def report(sound: Probe) -> Report:
    return report_on(sound)


def test_a_sound_recipe_passes_and_warns_of_its_untrained_teacher(report: Report) -> None:
    assert failed(report) == [] and report.passed() and not report.passed(strict=True)
    assert any("knows next to nothing of these data" in text for text in warned(report))
    assert any("is not better than the student as it stands" in text for text in warned(report))


def test_every_section_is_there_and_is_json(report: Report) -> None:
    content = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert set(content) >= SECTIONS and all(content[name] for name in SECTIONS)
    assert content["data"]["train"]["images"] == 8 and content["data"]["val"]["images"] == 4
    assert set(content["data"]["train"]["classes"]) == set(CLASSES)
    assert [pair["stride"] for pair in content["levels"]["pairs"]] == [8, 16, 32, 64, 128]
    assert content["teacher"]["images"] == 4 and 0 <= content["teacher"]["student"]["AP"] < 0.2
    assert content["teacher"]["not_loaded"] == []
    assert {"check": "teacher", "status": "warning"}.items() <= content["problems"][0].items()


def test_terms_have_value_weight_and_pull(report: Report) -> None:
    assert report.terms is not None
    structural, l2 = report.terms["terms"]["structural"], report.terms["terms"]["l2"]
    assert structural["value"] > 0 and structural["weight"] == 4.0 and structural["ratio"] > 0
    assert -1 <= structural["cosine"] <= 1
    assert l2["weight"] == "auto" and l2["ratio"] == pytest.approx(1, rel=1e-3)  # alone: measured on this batch
    assert structural["weights"] == {"structural": 4.0}
    assert list(l2["weights"]) == [f"l2/{stride}" for stride in (8, 16, 32, 64, 128)]
    assert min(l2["weights"].values()) >= 0 < max(l2["weights"].values())
    assert not any(report.terms["checks"].values()) and len(report.terms["checks"]) == 9


@pytest.mark.parametrize(("weight", "effect"), [(1e6, "drowns the task"), (1e-9, "does next to nothing")])
def test_a_weight_that_is_far_off_is_a_warning_and_a_failure_when_strict(
    tmp_path: Path, weight: float, effect: str
) -> None:
    prepared = probe(recipe_of(tmp_path, {"method": "l2", "weight": weight}))
    report = report_on(prepared)
    found = [problem for problem in report.problems if problem.check == "terms"]
    assert [problem.status for problem in found] == ["warning"] and effect in found[0].text
    assert report.passed() and not report.passed(strict=True)
    assert "terms    warning" in as_text(report)
    assert report.terms is not None
    share = report.terms["terms"]["l2"]["ratio"]
    assert f"weight {weight:g} pulls {share:.3g} times as hard" in found[0].text


def test_a_step_takes_time_and_the_run_as_many_of_them(report: Report) -> None:
    step = report.step
    assert step is not None
    assert step["alone_seconds"] > 0 and step["seconds"] > 0
    assert step["batches"] == 4  # eight images in batches of four, two epochs
    assert step["run_seconds"] == pytest.approx(4 * (step["seconds"] + step["load_seconds"]))


def test_memory_is_counted_to_the_byte_where_it_can_be(sound: Probe, report: Report) -> None:
    memory = report.memory
    assert memory is not None and sound.distiller.teacher is not None
    trained = sum(p.numel() for p in sound.distiller.parameters()) * 4
    assert memory["gradients"] == trained and memory["parameters"] >= trained
    assert 2 * trained <= memory["optimizer"] <= 2.01 * trained  # AdamW: two moments and a counter
    assert memory["teacher"] == sum(t.nbytes for t in sound.distiller.teacher.model.state_dict().values())
    assert memory["average"] == 0 and memory["gpu_peak"] is None
    parts = ("parameters", "gradients", "optimizer", "average", "teacher", "activations")
    assert memory["total"] == sum(memory[part] for part in parts)


def test_twice_the_images_keep_twice_the_activations(sound: Probe, report: Report) -> None:
    """Nearly: what depends on the weights alone is kept once."""
    batch = sound.batches[0]
    half = replace(
        batch,
        images=batch.images[:2],
        sizes_hw=batch.sizes_hw[:2],
        original_sizes_hw=batch.original_sizes_hw[:2],
        image_ids=batch.image_ids[:2],
        targets=(batch.targets or [])[:2],
    )
    smaller = report_on(replace(sound, batches=[half])).memory
    assert smaller is not None and report.memory is not None
    assert 1.5 < report.memory["activations"] / smaller["activations"] < 2.2


def test_nothing_of_the_run_is_changed_by_the_check(sound: Probe) -> None:
    assert sound.distiller.teacher is not None
    before, teacher = state_of(sound.distiller), state_hash(sound.distiller.teacher.model)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    report_on(sound)
    assert torch.equal(torch.rand(3), expected)
    assert same_state(before, state_of(sound.distiller)) and sound.distiller.training
    assert state_hash(sound.distiller.teacher.model) == teacher
    assert not sound.optimizer.state_dict()["state"]
    assert {group["lr"] for group in sound.optimizer.param_groups} == {0.001}
    assert all(p.grad is None for p in sound.distiller.parameters())


def test_the_text_has_every_section_with_its_mark(report: Report) -> None:
    lines = as_text(report).splitlines()
    marks = {line[:9].strip(): line[9:] for line in lines if not line.startswith(" ")}
    assert {name: marks[name] for name in SECTIONS - {"problems"}} == {
        **dict.fromkeys(("data", "classes", "levels", "terms", "step", "memory"), "ok"),
        "teacher": "warning",
    }
    assert lines[-1] == "distillation would act; 2 warnings"
    assert as_text(report, strict=True).splitlines()[-1] == "2 warnings, which --strict refuses"
    assert max(len(line) for line in lines if "warning:" not in line and "safetensors" not in line) <= 100


def test_the_students_own_weights_as_teacher_have_their_own_message(tmp_path: Path) -> None:
    path = save(tmp_path, width=0.25, fpn_channels=32)
    recipe = recipe_of(tmp_path, teacher={"run": str(path)}, student={"weights": str(path)})
    assert any("teacher and student have the same weights" in text for text in failed(check(recipe)))


def test_shuffled_classes_are_matched_by_name_and_shown(tmp_path: Path) -> None:
    path = save(tmp_path, classes=("triangle", "circle", "square"))
    report = check(recipe_of(tmp_path, {"method": "soft_labels"}, teacher={"run": str(path)}))
    assert failed(report) == [] and report.classes is not None and report.classes["reordered"]
    columns = {pair["name"]: (pair["student"], pair["teacher"]) for pair in report.classes["pairs"]}
    assert columns == {"circle": (1, 2), "square": (2, 3), "triangle": (3, 1)}
    text = as_text(report)
    assert "the teacher has them in another order" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  square ")][-1] == [
        "square",
        "2",
        "3",
        "square",
    ]


def test_classes_that_the_teacher_does_not_know_are_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path, classes=("circle", "square", "triangel"))
    report = check(recipe_of(tmp_path, teacher={"run": str(path)}))
    assert report.classes is not None
    assert (report.classes["only_student"], report.classes["only_teacher"]) == (["triangle"], ["triangel"])
    found = [problem for problem in report.problems if problem.check == "classes"]
    assert len(found) == 1 and found[0].status == "warning"
    assert "class_map: {triangel: triangle}" in found[0].text
    assert "only the teacher has: triangel" in as_text(report)
    assert not report.passed(strict=True)


def test_a_class_map_is_followed_when_the_teacher_is_evaluated(tmp_path: Path) -> None:
    path = save(tmp_path, classes=("Kreis", "Quadrat", "Dreieck"))
    names = {"Kreis": "circle", "Quadrat": "square", "Dreieck": "triangle"}
    report = check(recipe_of(tmp_path, teacher={"run": str(path), "class_map": names}))
    assert failed(report) == [] and report.classes is not None
    assert [pair["teacher_name"] for pair in report.classes["pairs"]] == list(names)


def test_a_recipe_without_a_teacher_is_checked_as_far_as_it_goes() -> None:
    report = check(Recipe.model_validate(tiny_recipe(train={"max_steps": 3, "ema": 0.9})))
    assert report.problems == [] and report.teacher is None and report.terms is None
    assert report.step is not None and report.step["batches"] == 3
    assert report.memory is not None and report.memory["average"] > 0
    assert as_text(report).splitlines()[-1] == "the student would be trained alone"


def test_a_step_that_does_not_fit_into_the_memory_says_so(tmp_path: Path) -> None:
    prepared = probe(recipe_of(tmp_path))

    def too_large(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    prepared.distiller.model.backbone.body.conv1.register_forward_pre_hook(
        lambda module, given: too_large() if module.training else None
    )
    report = report_on(prepared)
    assert failed(report) == [
        "a step of 4 images does not fit into the memory; lower train.batch_size (train.accumulate makes up for it), "
        "or use bf16-mixed or smaller images"
    ]
    assert report.step is None and "memory   failed" in as_text(report)


def test_images_of_both_splits_and_classes_without_objects_are_doubtful(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "images" / name)
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 40], "area": 1600, "iscrowd": 0}]
    content = {
        "images": [{"id": i, "file_name": n, "width": 64, "height": 64} for i, n in enumerate(("a.png", "b.png"), 1)],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = {"format": "coco", "train": str(tmp_path / "a.json"), "val": str(tmp_path / "a.json"), "image_size": 64}
    recipe = tiny_recipe(train={"batch_size": 2})
    report = check(Recipe.model_validate({**recipe, "data": data}))
    assert [problem.text.split(";")[0] for problem in report.problems] == [
        "no training image holds dog",
        "no validation image holds dog",
        "2 of the 2 validation images are training images too, so AP would flatter every model",
    ]
    assert report.data["train"]["empty_images"] == 1 and report.passed() and not report.passed(strict=True)


def test_bf16_where_its_gradients_are_wrong_is_refused_as_in_a_run(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, where these gradients are right")
    with pytest.raises(InputError, match=r"images above 64 px are sound\); use fp32"):
        check(recipe_of(tmp_path, train={"precision": "bf16-mixed"}))


def test_auto_takes_fp32_where_bf16_is_wrong_as_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    report = check(Recipe.model_validate(tiny_recipe(train={"precision": "auto"})))
    assert any(note.startswith("train.precision: auto takes fp32 here") for note in report.notes)
