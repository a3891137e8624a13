"""Runs of two steps with transformers' detectors as student and as teacher."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers: pip install 'kdet[hf]'")

from train_cases import recipe_of, records, run

import kdet
from detr_fakes import config_of, every_type, tiny_detr
from fakes import same_state, state_of
from kdet.errors import InputError, WorkError
from kdet.train.build import build_student
from kdet.train.state import checkpoint
from kdet.train.state.bad_batch import BAD_BATCH
from kdet.train.state.run_folder import BEST, CONFIG, LAST, SOURCE, save_student
from kdet.train.teaching.teachers import load_detector

TWO_STEPS = {"epochs": 1, "batch_size": 4}
STUDENT = {"student": None, "train": TWO_STEPS}


def teacher_folder(folder: Path, kind: str = "rt_detr") -> Path:
    folder.mkdir()
    detector = tiny_detr(kind, seed=2, size=64)
    save_student(detector, detector.native_state(), folder / BEST)
    return folder


def recipe(student: dict[str, Any], **sections: Any) -> Any:
    made = recipe_of(**{"train": TWO_STEPS, **sections})
    return made.model_validate({**made.model_dump(), "student": student})


def weight_groups(folder: Path) -> dict[str, float]:
    return records(folder, "step")[-1]["parts"]


@pytest.mark.parametrize("kind", ["rt_detr", "d_fine", "detr", "lw_detr"])
def test_a_student_trains_and_comes_back_from_its_run_folder(kind: str, tmp_path: Path):
    made = recipe({"detector": "hf", "config": config_of(kind)})
    before = state_of(build_student(made, ("circle", "square", "triangle"), print).model)
    run(made, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {BEST, LAST, CONFIG} <= files and SOURCE not in files
    again = load_detector(tmp_path / "run")
    assert again.class_names[:3] == ("circle", "square", "triangle")
    assert same_state(state_of(again.model), load_file(tmp_path / "run" / BEST))
    assert not same_state(state_of(again.model), before)
    assert len(records(tmp_path / "run", "step")) == 2


@pytest.mark.long
@every_type
def test_the_state_of_every_type_is_saved_and_put_back(kind: str, tmp_path: Path):
    detector, other = tiny_detr(kind), tiny_detr(kind, seed=1)
    saved, fresh = kdet.Distiller(detector), kdet.Distiller(other)
    rule = get_ema_multi_avg_fn(0.5)
    average, fresh_average = (AveragedModel(d.model, multi_avg_fn=rule, use_buffers=True) for d in (saved, fresh))
    optimizers = [torch.optim.SGD(distiller.parameters(), lr=0.1) for distiller in (saved, fresh)]
    checkpoint.save(tmp_path / "state", saved.state_dict(), optimizers[0].state_dict(), average, checkpoint.Counters())
    assert not same_state(state_of(saved), state_of(fresh))
    checkpoint.load(tmp_path / "state", fresh, optimizers[1], fresh_average)
    assert same_state(state_of(saved), state_of(fresh))
    assert same_state(state_of(average), state_of(fresh_average))


def test_boxes_that_matching_refuses_end_the_run_with_the_place_where_they_break(tmp_path: Path):
    train = {"optimizer": "sgd", "lr": 1e30, "epochs": 1, "batch_size": 4}
    with pytest.raises(WorkError, match=r"student features, stride 8: .*not finite") as caught:
        run(recipe({"detector": "hf", "config": config_of("rt_detr")}, train=train), tmp_path / "run")
    assert "\n" not in str(caught.value) and (tmp_path / "run" / BAD_BATCH).is_dir()


def test_a_detr_teaches_a_retinanet_by_features(tmp_path: Path):
    teacher = {"run": str(teacher_folder(tmp_path / "teacher") / BEST)}
    made = recipe_of(teacher=teacher, distill=[{"method": "structural"}], train=TWO_STEPS)
    run(made, tmp_path / "run")
    assert weight_groups(tmp_path / "run")["structural"] > 0


def test_a_detr_teaches_a_detr_by_queries(tmp_path: Path):
    teacher = {"detector": "hf", "weights": str(teacher_folder(tmp_path / "teacher"))}
    student = {"detector": "hf", "config": config_of()}
    made = recipe(student, teacher=teacher, distill=[{"method": "detrdistill"}, {"method": "structural"}])
    run(made, tmp_path / "run")
    parts = weight_groups(tmp_path / "run")
    assert parts["detrdistill"] > 0 and parts["structural"] > 0 and parts["task/loss_vfl"] > 0


def test_a_detr_teaches_a_detr_by_its_memory_and_its_own_queries(tmp_path: Path):
    teacher = {"detector": "hf", "weights": str(teacher_folder(tmp_path / "teacher"))}
    made = recipe(
        {"detector": "hf", "config": config_of()},
        teacher=teacher,
        distill=[{"method": "kd_detr"}, {"method": "clockdistill"}, {"method": "cosine", "strides": [32]}],
    )
    run(made, tmp_path / "run")
    steps = records(tmp_path / "run", "step")
    assert len(steps) == 2
    assert all(one["parts"][name] > 0 for one in steps for name in ("kd_detr", "clockdistill", "cosine"))


def test_a_decoders_answers_are_not_kept(tmp_path: Path):
    teacher = {"detector": "hf", "weights": str(teacher_folder(tmp_path / "teacher")), "cache": str(tmp_path / "kept")}
    made = recipe({"detector": "hf", "config": config_of()}, teacher=teacher, distill=[{"method": "kd_detr"}])
    with pytest.raises(InputError, match="teacher: cache: decoder cannot be kept; leave `cache:` out"):
        run(made, tmp_path / "run")


def test_a_teacher_that_is_sure_of_nothing_is_refused_before_the_first_epoch(tmp_path: Path):
    teacher = {"detector": "hf", "config": config_of("detr", num_queries=5)}
    student = {"detector": "hf", "config": config_of("detr")}
    made = recipe(student, teacher=teacher, distill=[{"method": "detrdistill", "threshold": 0.9}])
    with pytest.raises(InputError, match="detrdistill: its value on the first batch is 0"):
        run(made, tmp_path / "run")


def test_mixed_precision_trains(tmp_path: Path):
    run(
        recipe({"detector": "hf", "config": config_of()}, train={**TWO_STEPS, "precision": "bf16-mixed"}),
        tmp_path / "r",
    )
    assert all(torch.tensor(value).isfinite() for value in weight_groups(tmp_path / "r").values())
