"""What a run leaves behind, and what its settings do."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from train_cases import distilled, recipe_of, records, run, teacher_file

from fakes import CLASSES, tiny
from kdet.errors import InputError, WorkError
from kdet.train import build, load_detector, open_data, read_recipe
from kdet.train.build import resolved
from kdet.train.optim import learning_rate
from kdet.train.recipe.schema import TrainRecipe

METRICS = {"AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "per_class"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One distilled run of two epochs with a look at AP after each."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    run(distilled(folder, train={"evaluate_every": 1}), folder / "run")
    return folder / "run"


def test_a_run_folder_holds_what_design_promises(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        *("recipe.yaml", "environment.json", "log.jsonl", "metrics.json", "teacher.json", "predictions.json"),
        *("curves.json", "student.safetensors", "student-last.safetensors", "last"),
    }
    assert not [name for name in names if name.endswith((".new", ".old"))]


def test_metrics_of_student_and_teacher_have_the_promised_keys(finished: Path) -> None:
    for name in ("metrics.json", "teacher.json"):
        metrics = json.loads((finished / name).read_text())
        assert set(metrics) >= METRICS
        assert 0 <= metrics["AP"] <= 1
        assert set(metrics["per_class"]) == set(CLASSES)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["last"] == {"epoch": 2, "step": 4, "AP": metrics["AP"], "weights": "student-last.safetensors"}
    assert metrics["best"].keys() == {"epoch", "step", "AP", "weights"} and metrics["best"]["AP"] >= metrics["AP"]
    assert metrics["total_steps"] == 4 and metrics["stopped_early"] is None


def test_the_log_names_every_part_and_the_parts_add_up(finished: Path) -> None:
    steps = records(finished, "step")
    assert [(record["step"], record["epoch"]) for record in steps] == [(1, 0), (2, 0), (3, 1), (4, 1)]
    for record in steps:
        parts = record["parts"]
        assert set(parts) == {"task/classification", "task/bbox_regression", "structural", "rank_mimicking"}
        assert record["total"] == pytest.approx(sum(parts.values()), rel=1e-5)
        assert record["images_per_second"] > 0
    assert [record["epoch"] for record in records(finished, "eval")] == [1, 2]
    notes = " ".join(record["text"] for record in records(finished, "note"))
    assert "distillation acts" in notes and "stride" in notes and "teacher: AP" in notes


def test_the_resolved_recipe_repeats_the_run(finished: Path) -> None:
    recipe = read_recipe(finished / "recipe.yaml")
    assert recipe.student.fpn_channels == 32 and recipe.train.evaluate_every == 1


def test_the_environment_says_where_and_with_what(finished: Path) -> None:
    about = json.loads((finished / "environment.json").read_text())
    assert set(about) >= {"date", "command", "commit", "seed", "python", "device", "packages"}
    assert torch.__version__.startswith(about["packages"]["torch"])


def test_the_run_folder_is_a_model_and_the_files_are_the_students_alone(finished: Path) -> None:
    detector = load_detector(finished)
    assert detector.class_names == ("__background__", *CLASSES)
    for name in ("student.safetensors", "student-last.safetensors"):
        assert set(load_file(finished / name)) == set(detector.model.state_dict())


def test_the_same_seed_gives_the_same_student_and_another_seed_another(tmp_path: Path) -> None:
    weights = []
    for index, seed in enumerate((3, 3, 4)):
        run(recipe_of(train={"seed": seed, "epochs": 1}), tmp_path / str(index))
        weights.append(load_file(tmp_path / str(index) / "student-last.safetensors"))
    first, second, third = weights
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_max_steps_ends_a_run_early(tmp_path: Path) -> None:
    outcome = run(recipe_of(train={"max_steps": 3}), tmp_path / "run")
    assert outcome.steps == 3 == len(records(tmp_path / "run", "step"))
    assert (tmp_path / "run" / "student.safetensors").exists()


@pytest.mark.parametrize(("accumulate", "epochs", "steps"), [(2, 2, 2), (3, 3, 3), (2, 1, 1)])
def test_accumulation_makes_fewer_steps_and_the_rate_still_reaches_its_end(
    tmp_path: Path, accumulate: int, epochs: int, steps: int
) -> None:
    settings = {"accumulate": accumulate, "epochs": epochs, "batch_size": 4}
    outcome = run(recipe_of(train=settings), tmp_path / "run")
    assert outcome.steps == steps
    last = records(tmp_path / "run", "step")[-1]
    assert last["lr"] == pytest.approx(learning_rate(TrainRecipe(lr=0.001, warmup_steps=0), steps - 1, steps))


def test_two_accumulated_batches_are_one_of_twice_the_size(tmp_path: Path) -> None:
    """Terms and task losses are means over images here, so the gradients agree to rounding."""
    gradients = []
    for name, settings in {"twice": {"batch_size": 4, "accumulate": 2}, "once": {"batch_size": 8}}.items():
        student = {"norm": "group"}
        recipe = recipe_of(student=student, train={"epochs": 1, "optimizer": "sgd", "weight_decay": 0.0, **settings})
        run(recipe, tmp_path / name)
        gradients.append(load_file(tmp_path / name / "student-last.safetensors"))
    first, second = gradients
    changed = max(float((first[n] - second[n]).abs().max()) for n in first)
    assert changed < 2e-4  # lr 1e-3: the normaliser (objects per batch) differs a little between the halves


def test_the_moving_average_is_what_is_saved_and_scored(tmp_path: Path) -> None:
    run(recipe_of(train={"ema": 0.9}), tmp_path / "averaged")
    run(recipe_of(), tmp_path / "plain")
    averaged = load_file(tmp_path / "averaged" / "student-last.safetensors")
    plain = load_file(tmp_path / "plain" / "student-last.safetensors")
    live = load_file(tmp_path / "averaged" / "last" / "trainables.safetensors")
    assert set(averaged) == set(plain)
    assert all(torch.equal(plain[name], live[f"model.{name}"]) for name in plain)
    assert not all(torch.equal(plain[name], averaged[name]) for name in plain)


def test_the_kept_recipe_spells_out_what_the_methods_default_to(finished: Path) -> None:
    kept = {term["method"]: term for term in yaml.safe_load((finished / "recipe.yaml").read_text())["distill"]}
    assert kept["structural"]["normalize"] == "channel" and kept["structural"]["window"] == 11
    assert kept["structural"]["weight"] == kept["rank_mimicking"]["weight"] == "auto"
    assert read_recipe(finished / "recipe.yaml").distill


def test_a_published_weight_is_a_number_in_the_kept_recipe(tmp_path: Path) -> None:
    run = str(teacher_file(tmp_path))
    pkd = {"method": "pkd", "weight": "published"}
    teachers = [{"run": run, "distill": [pkd]}, {"run": run, "name": "other"}]
    kept = resolved(recipe_of(teacher=teachers, distill=[pkd]))
    first, second = kept.teachers
    assert second.distill is None and [term.weight for term in (*kept.distill, *(first.distill or []))] == [6.0, 6.0]
    assert kept.distill[0].model_extra == {"statistics": "batch", "finest": 4, "adapter": "auto"}
    assert resolved(recipe_of(teacher={"run": run}, distill=[pkd])).distill[0].weight == 6.0


def test_the_log_says_how_weights_were_measured_and_which_are_far_off(tmp_path: Path) -> None:
    terms = [{"method": "structural"}, {"method": "l2", "weight": 1e6}]
    settings = {"epochs": 12, "max_steps": 22, "warmup_steps": 2}
    run(distilled(tmp_path, distill=terms, train=settings), tmp_path / "run")
    notes = [record["text"] for record in records(tmp_path / "run", "note")]
    assert [note for note in notes if note.startswith("before the first step, l2: weight 1e+06 pulls ")]
    # Two steps of warm-up, so that the calibration begins anew after the second one.
    assert [note[:56] for note in notes if "measured over" in note] == [
        "step 22: weight: auto, measured over 20 batches: structu"
    ]
    assert [note for note in notes if note.startswith("step ") and "l2: weight 1e+06 pulls" in note]
    last = records(tmp_path / "run", "step")[-1]
    assert last["weights_over"] == 20 and set(last["weights"]) == {f"structural/{2**n}" for n in range(3, 8)}


def test_without_a_teacher_nothing_of_one_is_written(tmp_path: Path) -> None:
    run(recipe_of(train={"epochs": 1}), tmp_path / "run")
    assert not (tmp_path / "run" / "teacher.json").exists()
    assert set(records(tmp_path / "run", "step")[0]["parts"]) == {"task/classification", "task/bbox_regression"}


def test_bf16_and_gradient_clipping_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdet.train.prepare.bf16_is_fast", lambda: False)
    # 96 px: on a 1×1 map, torch 2.15 leaves parts of a stride-2 convolution's bf16 gradient uninitialised on the CPU.
    settings = {"precision": "bf16-mixed", "clip_norm": 1.0, "epochs": 1}
    assert run(distilled(tmp_path, data={"image_size": 96}, train=settings), tmp_path / "run").steps == 2
    assert "many times slower with bf16-mixed than with fp32" in (tmp_path / "run" / "log.jsonl").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, where fp16 is right")
def test_fp16_without_a_gpu_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp16-mixed needs a GPU; use bf16-mixed or fp32"):
        run(recipe_of(train={"precision": "fp16-mixed"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 1.0, 50: 1.0, 99: 1.0}),
        ("step", {0: 1.0, 66: 1.0, 67: 0.1, 91: 0.1, 92: 0.01}),
        ("cosine", {0: 1.0, 50: 0.5, 99: 0.5 * (1 + math.cos(math.pi * 0.99))}),
    ],
)
def test_learning_rate_schedules(schedule: str, expected: dict[int, float]) -> None:
    settings = TrainRecipe.model_validate({"lr": 1.0, "lr_schedule": schedule, "warmup_steps": 0})
    assert {step: learning_rate(settings, step, 100) for step in expected} == pytest.approx(expected)


def test_warm_up_rises_and_takes_at_most_a_tenth_of_the_run() -> None:
    settings = TrainRecipe(lr=1.0, lr_schedule="constant", warmup_steps=500)
    rates = [learning_rate(settings, step, 100) for step in range(12)]
    assert rates[:10] == sorted(rates[:10]) and 0 < rates[0] < rates[9] < 1
    assert rates[10:] == [1.0, 1.0]


def test_a_teacher_of_weights_brings_its_own_class_order(tmp_path: Path) -> None:
    path = teacher_file(tmp_path, classes=("triangle", "circle", "square"))
    options = {"backbone": "resnet10", "width": 0.5, "fpn_channels": 64, "anchor_scale": 0.5}
    recipe = recipe_of(
        teacher={"detector": "retinanet", "weights": str(path), **options}, distill=[{"method": "soft_labels"}]
    )
    said: list[str] = []
    distiller = build.build_distiller(recipe, tiny(image_size=64), CLASSES, said.append)
    assert distiller.teacher is not None and distiller.pairing is not None
    assert distiller.teacher.class_names == ("__background__", "triangle", "circle", "square")
    assert distiller.pairing.classes.teacher == (2, 3, 1)
    stored = load_file(path)
    assert all(torch.equal(stored[name], value) for name, value in distiller.teacher.model.state_dict().items())
    assert not any("fresh" in line for line in said)


def test_a_loss_that_is_not_finite_names_parts_and_images_and_keeps_the_saved_state(tmp_path: Path) -> None:
    recipe = recipe_of(train={"lr": 1e30, "optimizer": "sgd", "epochs": 30})
    with pytest.raises(WorkError, match=r"loss is not finite \(.*task/classification = .*\) on images \[\d+") as caught:
        run(recipe, tmp_path / "run")
    assert "train.lr" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, where these gradients are right")
def test_bf16_where_p6_is_a_single_cell_is_refused_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images above 64 px are sound\); use fp32"):
        run(recipe_of(data={"image_size": 64}, train={"precision": "bf16-mixed"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_auto_takes_fp32_where_p6_is_a_single_cell_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    recipe = recipe_of(data={"image_size": 64}, train={"precision": "auto", "max_steps": 1})
    run(recipe, tmp_path / "run")
    assert read_recipe(tmp_path / "run" / "recipe.yaml").train.precision == "fp32"
    said = (tmp_path / "run" / "log.jsonl").read_text()
    assert "train.precision: auto takes fp32 here, for bf16-mixed gives wrong gradients on the CPU" in said


def test_an_inherited_start_is_said_and_taken(tmp_path: Path) -> None:
    """One step at a rate of nearly 0: the head is still the teacher's."""
    teacher = teacher_file(tmp_path, fpn_channels=32)
    recipe = distilled(
        tmp_path / "unused",
        methods=("structural",),
        teacher={"run": str(teacher)},
        student={"inherit": "head"},
        train={"epochs": 1, "max_steps": 1, "lr": 1e-12},
    )
    run(recipe, tmp_path / "run")
    said = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert "inherited from the teacher: " in said and "of the head" in said
    theirs, ours = load_file(teacher), load_file(tmp_path / "run" / "student-last.safetensors")
    for name in theirs:
        if name.startswith(("head.", "backbone.fpn.layer_blocks.")):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def test_an_inherited_start_without_a_teacher_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"inherit needs a teacher; add `teacher: \{run: …\}`"):
        recipe_of(student={"inherit": "neck"})


def test_a_part_of_the_labels_and_a_held_out_part_are_used_and_said() -> None:
    splits = open_data(recipe_of(data={"labels": 0.5, "hold_out": 0.25}))
    assert (len(splits.train.index), len(splits.val.index)) == (3, 2)  # of 8
    assert not set(splits.train.index.image_ids) & set(splits.val.index.image_ids)
    assert splits.notes == [
        "validation on 2 training images that are held out; `val` is not looked at",
        "training on 3 of 6 images (labels: 0.5)",
    ]
