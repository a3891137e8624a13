"""Each fault that can keep distillation from acting: planted in a real pair, found, named, and told how to mend."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from check_cases import failed, recipe_of, warned

from fakes import tiny, tiny_recipe
from kdet.train import Recipe
from kdet.workflows.check.run import Probe, check, probe, report_on
from kdet.workflows.check.text import as_text


def without_weight(folder: Path) -> Probe:
    return probe(recipe_of(folder, {"method": "structural", "weight": 0}))


def a_teacher_that_was_woken(folder: Path) -> Probe:
    prepared = probe(recipe_of(folder))
    assert prepared.distiller.teacher is not None
    prepared.distiller.teacher.model.backbone.body.layer1.training = True
    return prepared


def an_adapter_that_is_not_trained(folder: Path) -> Probe:
    prepared = probe(recipe_of(folder))
    return replace(prepared, optimizer=torch.optim.SGD(prepared.distiller.model.parameters(), lr=0.1))


def an_unknown_layer(folder: Path) -> Probe:
    """Features come from a hook that nothing calls."""
    prepared = probe(recipe_of(folder))
    student = prepared.distiller.student
    observe = student.observe
    student.observe = lambda batch, needs, targets=None: replace(observe(batch, needs, targets), features=None)
    return prepared


def a_detached_student(folder: Path) -> Probe:
    prepared = probe(recipe_of(folder))
    student = prepared.distiller.student
    observe = student.observe

    def detached(batch: Any, needs: Any, targets: Any = None) -> Any:
        seen = observe(batch, needs, targets)
        return replace(seen, features=[level.detach().requires_grad_() for level in seen.features])

    student.observe = detached
    return prepared


def other_pixels(folder: Path) -> Probe:
    prepared = probe(recipe_of(folder))
    assert prepared.distiller.teacher is not None
    detector = prepared.distiller.teacher.detector
    observe = detector.observe
    detector.observe = lambda batch, needs, targets=None: observe(
        replace(batch, images=batch.images.flip(3)), needs, targets
    )
    return prepared


def random_weights(folder: Path) -> Probe:
    return probe(recipe_of(folder, teacher={**tiny_recipe()["student"], "fpn_channels": 64}))


def a_class_layer_that_does_not_fit(folder: Path) -> Probe:
    """A plain file of another data set's detector, read as if it were ours; rank mimicking reads its scores."""
    torch.save(tiny(width=0.5, fpn_channels=64, classes=[f"c{i}" for i in range(7)]).native_state(), folder / "w.pth")
    teacher = {**tiny_recipe()["student"], "width": 0.5, "fpn_channels": 64, "weights": str(folder / "w.pth")}
    return probe(recipe_of(folder, {"method": "rank_mimicking"}, teacher=teacher))


def weights_that_were_lost(folder: Path) -> Probe:
    """Somebody builds the teacher anew after loading."""
    prepared = probe(recipe_of(folder))
    assert prepared.distiller.teacher is not None
    fresh = tiny(width=0.5, fpn_channels=64, seed=9).model
    prepared.distiller.teacher.model.load_state_dict(fresh.state_dict())
    return prepared


def a_broken_teacher(folder: Path) -> Probe:
    prepared = probe(recipe_of(folder))
    assert prepared.distiller.teacher is not None
    prepared.distiller.teacher.model.backbone.body.conv1.weight.fill_(float("nan"))
    return prepared


FAULTS: dict[Callable[[Path], Probe], str] = {
    without_weight: "structural: weight 0 distils nothing; give it a weight, or leave the term out",
    a_teacher_that_was_woken: "the teacher's backbone.body.layer1 is in training mode",
    an_adapter_that_is_not_trained: "adapters.structural.convolutions.0.weight is trainable but not in the optimizer",
    an_unknown_layer: "structural: reads the student's features, and its observe() left them empty",
    a_detached_student: "structural: no gradient reaches the student; are its features detached",
    other_pixels: "the teacher does not see the batch's pixels",
    random_weights: "the teacher has random weights and knows nothing; give `teacher: {run: …}` or `weights:`",
    a_class_layer_that_does_not_fit: "did not load from",
    weights_that_were_lost: "did not load from",
    a_broken_teacher: "a term cannot be computed: expected numbers, got NaN in level 0 of teacher",
}


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=pytest.mark.long if i % 2 else [], id=f.__name__) for i, f in enumerate(FAULTS)]
)
def test_a_planted_fault_fails_the_check_with_its_message(fault: Callable[[Path], Probe], tmp_path: Path) -> None:
    report = report_on(fault(tmp_path))
    assert not report.passed()
    assert any(FAULTS[fault] in text for text in failed(report)), report.problems
    assert "failed: " in as_text(report) and "mend what failed" in as_text(report).splitlines()[-1]
    json.dumps(report.as_json(), allow_nan=False)


def test_features_can_be_learned_from_a_teacher_whose_class_layer_alone_did_not_load(tmp_path: Path) -> None:
    prepared = a_class_layer_that_does_not_fit(tmp_path)
    recipe = prepared.recipe.model_copy(
        update={
            "distill": Recipe.model_validate(
                tiny_recipe(distill=[{"method": "structural"}], teacher={"run": "unused"})
            ).distill
        }
    )
    report = check(recipe)
    assert failed(report) == []
    assert any("its class layer" in text and "features can be learned all the same" in text for text in warned(report))
    assert any("starts fresh" in note for note in report.notes)


def test_a_placebo_passes_whatever_it_learns_from(tmp_path: Path) -> None:
    random = {**tiny_recipe()["student"], "fpn_channels": 64}
    report = check(recipe_of(tmp_path, {"method": "structural", "weight": 0, "placebo": True}, teacher=random))
    assert report.problems == [] and report.passed(strict=True)
