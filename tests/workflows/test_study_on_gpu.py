"""Where the GPU is used beyond training: the check, speed, evaluation, and exported files beside it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from check_cases import failed, recipe_of

from export_fakes import batches, run_that_finds, written
from kdet.evaluate import predict_loader
from kdet.workflows.check.run import check, probe, report_on
from kdet.workflows.models import open_to_run
from kdet.workflows.speed import measure

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_that_finds(tmp_path_factory.mktemp("trained"))


def test_a_sound_recipe_passes_and_its_memory_is_counted(tmp_path: Path) -> None:
    """Of so small a pair the GPU's libraries take more for themselves than the pair does."""
    report = check(recipe_of(tmp_path))
    assert report.passed(), report.problems
    assert report.memory is not None
    assert report.memory["gpu_peak"] > report.memory["parameters"] + report.memory["teacher"]


def test_a_teacher_that_is_broken_fails_the_check(tmp_path: Path) -> None:
    """No loss looks for NaN there."""
    prepared = probe(recipe_of(tmp_path))
    teacher: Any = prepared.distiller.teacher
    teacher.model.backbone.body.conv1.weight.fill_(float("nan"))
    report = report_on(prepared)
    assert not report.passed()
    assert any("structural: its value on the first batch is nan" in text for text in failed(report))


def test_detections_are_those_of_the_cpu(trained: Path) -> None:
    """The same number, and nearly all scores: at a threshold rounding decides."""
    found = []
    for where in ("cpu", "cuda"):
        detector, device = open_to_run(trained, where)
        assert device == where
        found.append(predict_loader(detector, batches(), detector.class_names, device=device))
    for ours, theirs in zip(*found, strict=True):
        assert len(ours.scores) == len(theirs.scores) > 0
        scores = (torch.from_numpy(one.scores).sort().values for one in (ours, theirs))
        torch.testing.assert_close(*scores, rtol=1e-2, atol=1e-3)


def test_files_run_on_the_processor_beside_models_on_the_gpu(trained: Path, tmp_path: Path) -> None:
    detector, _ = open_to_run(trained, "cpu")
    exported = written(tmp_path, detector, "pt2")
    model, file = measure([trained, exported.path], seconds=0.05)
    assert (model.device, file.device) == (torch.cuda.get_device_name(), "CPU")
    assert model.peak_bytes and file.peak_bytes
    assert [one.device for one in measure([trained], seconds=0.05, memory=False, device="cpu")] == ["CPU"]
    assert predict_loader(exported, batches(), exported.class_names, device=open_to_run(exported.path)[1])
