"""The whole path by the command line: shapes → train → distill → evaluate → predict, each with --json."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cli_cases import Command, Ended, in_own_process
from PIL import Image

from fakes import tiny_recipe, write_yaml
from kdet.distill import METHODS as DISTILLATION

METRICS = {"AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "per_class"}


def test_every_step_of_the_job_ends_well_with_one_json_object(job: dict[str, Ended]) -> None:
    for name in ("shapes", "train", "distill"):
        ended = job[name]
        assert ended.status == 0, ended.err
        assert isinstance(ended.result, dict) and ended.out.count("\n") == 1
        assert "Traceback" not in ended.err and "Warning" not in ended.err
    assert job["shapes"].result == {"folder": "shapes", "format": "coco", "train": 8, "val": 4}
    assert set(job["distill"].result) >= {"run", "metrics", "best_epoch", "seconds"}
    assert set(job["distill"].result["metrics"]) >= METRICS


@pytest.mark.long
def test_a_process_of_its_own_says_nothing_else(job: dict[str, Path], tmp_path: Path) -> None:
    recipe = job["folder"] / "small.yaml"
    (tmp_path / "runs").symlink_to(job["folder"] / "runs")
    (tmp_path / "shapes").symlink_to(job["folder"] / "shapes")
    ended = in_own_process("distill", recipe, "--run", "again", "--seed", "3", "--json", folder=tmp_path)
    assert ended.status == 0, ended.err
    assert ended.out.count("\n") == 1 and "Traceback" not in ended.err and "Warning" not in ended.err
    assert ended.result["metrics"] == job["distill"].result["metrics"]


def test_progress_and_notes_go_to_standard_error(job: dict[str, Ended]) -> None:
    assert "distillation acts" in job["distill"].err
    assert re.search(r"stride +8: student 32 channels ← teacher 64 channels", job["distill"].err)


def test_the_run_folder_has_its_default_name_and_the_seed_is_kept(job: dict[str, Path]) -> None:
    recipe = yaml.safe_load((job["folder"] / "runs" / "small" / "recipe.yaml").read_text())
    assert recipe["train"]["seed"] == 3


def test_evaluate_gives_the_metrics_of_the_run_itself(job: dict[str, Path], kdet: Command) -> None:
    run = job["folder"] / "runs" / "small"
    ended = kdet("evaluate", run, "--data", job["folder"] / "shapes", "--json", "--predictions", "found.json")
    assert ended.status == 0, ended.err
    assert set(ended.result) >= METRICS
    best = json.loads((run / "metrics.json").read_text())["best"]["AP"]
    assert ended.result["AP"] == pytest.approx(best, abs=1e-6)
    assert isinstance(json.loads((kdet.folder / "found.json").read_text()), list | dict)
    by_file = kdet("evaluate", run / "student.safetensors", "--data", job["folder"] / "shapes", "--json")
    assert by_file.result == ended.result


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_evaluate_finds_what_the_run_found_whatever_it_was_trained_in(precision: str, kdet: Command) -> None:
    """Images of several sizes pad each other, so that batches matter, too; hundreds of scores pass the threshold."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for i, size_wh in enumerate([(96, 96), (96, 48), (64, 96), (96, 80), (96, 60)], start=1):
        pixels = np.random.default_rng(i).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(kdet.folder / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png", "width": size_wh[0], "height": size_wh[1]})
        content["annotations"].append({"id": i, "image_id": i, "category_id": 1, "bbox": [8, 8, 32, 32], "area": 1024})
    (kdet.folder / "all.json").write_text(json.dumps(content), encoding="utf-8")
    data = {"format": "coco", "train": "all.json", "val": "all.json", "image_size": 96}
    train = {**tiny_recipe()["train"], "batch_size": 2, "lr": 0.02, "precision": precision}
    write_yaml(kdet.folder / "run.yaml", {**tiny_recipe(), "data": data, "train": train})
    assert kdet("train", "run.yaml", "--run", "run").status == 0
    ended = kdet("evaluate", "run", "--data", "all.json", "--json", "--predictions", "found.json")
    assert ended.status == 0, ended.err
    theirs = json.loads((kdet.folder / "run" / "predictions.json").read_text())
    assert len(theirs["results"]) > 20
    assert json.loads((kdet.folder / "found.json").read_text()) == theirs
    metrics = json.loads((kdet.folder / "run" / "metrics.json").read_text())
    about = {key: metrics.pop(key) for key in ("best", "last", "epoch", "total_steps", "stopped_early")}
    assert about["best"]["epoch"] == about["last"]["epoch"] == about["epoch"]
    assert {key: ended.result[key] for key in metrics} == metrics


def test_evaluate_prints_a_table_for_people(job: dict[str, Path], kdet: Command) -> None:
    ended = kdet("evaluate", job["folder"] / "runs" / "small", "--data", job["folder"] / "shapes")
    assert ended.status == 0 and ended.out.startswith("AP 0.")
    *table, last = ended.out.splitlines()[1:]
    assert [line.split()[0] for line in table] == ["circle", "square", "triangle"]
    assert last == "computed in fp32 on the cpu"


def test_speed_prints_a_row_a_model(job: dict[str, Path], kdet: Command) -> None:
    runs = [job["folder"] / "runs" / name for name in ("teacher", "small")]
    ended = kdet("speed", *runs, "--seconds", "0.01", "--batch-size", "2", "--no-memory", "--out", "speed.json")
    assert ended.status == 0, ended.err
    measured = json.loads((kdet.folder / "speed.json").read_text())["models"]
    assert [(one["model"], one["peak_bytes"]) for one in measured] == [(str(run), None) for run in runs]
    table = ended.out.splitlines()
    assert len(table) == 4 and table[0].startswith("model") and table[1].startswith(str(runs[0]))
    assert "1.00" in table[1] and "against the first" in table[-1]
    assert "precision" in table[0] and all("fp32" in row for row in table[1:3])


def test_predict_draws_pictures_and_writes_what_it_prints(job: dict[str, Path], kdet: Command) -> None:
    images = sorted((job["folder"] / "shapes").rglob("val*.png"))[:2]
    assert len(images) == 2
    run = job["folder"] / "runs" / "teacher"
    ended = kdet("predict", run, *images, "--out", "seen", "--score", "0", "--json")
    assert ended.status == 0, ended.err
    assert ended.result["images"] == json.loads((kdet.folder / "seen" / "predictions.json").read_text())
    for record, image in zip(ended.result["images"], images, strict=True):
        assert record["image"] == str(image)
        with Image.open(kdet.folder / record["picture"]) as picture:
            assert min(picture.size) >= 64
        for found in record["detections"]:
            assert found["class"] in ("circle", "square", "triangle") and 0 <= found["score"] <= 1
            x1, y1, x2, y2 = found["box_xyxy"]
            assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64


def test_predict_takes_a_folder_and_grey_images_of_any_size(job: dict[str, Path], kdet: Command) -> None:
    photos = kdet.folder / "photos"
    photos.mkdir()
    Image.new("L", (50, 33), 120).save(photos / "grey.png")
    Image.new("RGBA", (20, 90)).save(photos / "rgba.png")
    ended = kdet("predict", job["folder"] / "runs" / "small", photos, "--json")
    assert ended.status == 0, ended.err
    assert [Path(record["image"]).name for record in ended.result["images"]] == ["grey.png", "rgba.png"]
    assert (kdet.folder / "predictions" / "predictions.json").exists()


def test_resume_of_a_finished_run_ends_at_once(job: dict[str, Path], kdet: Command) -> None:
    kdet.patch.chdir(job["folder"])
    ended = kdet("distill", "small.yaml", "--seed", "3", "--resume", "--json")
    assert ended.status == 0, ended.err
    assert "resumed at step 4 of 4" in ended.err


def test_inspect_counts_what_the_generator_wrote(job: dict[str, Path], kdet: Command) -> None:
    ended = kdet("data", "inspect", job["folder"] / "shapes", "--json")
    assert ended.status == 0, ended.err
    assert ended.result["images"] == 8
    assert kdet("data", "inspect", job["folder"] / "shapes").out.startswith(("images", "format", "classes"))


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_convert_writes_a_set_that_is_recognised_and_holds_the_same(
    job: dict[str, Path], kdet: Command, to: str
) -> None:
    source = job["folder"] / "shapes"
    assert kdet("data", "convert", source, "other", "--to", to, "--json").status == 0
    before, after = kdet("data", "inspect", source, "--json").result, kdet("data", "inspect", "other", "--json").result
    assert (before["images"], before["boxes"]) == (after["images"], after["boxes"])


def test_convert_writes_training_and_validation_into_one_folder(job: dict[str, Path], kdet: Command) -> None:
    source = job["folder"] / "shapes"
    assert kdet("data", "convert", source, "both", "--to", "yolo", "--val", source).status == 0
    for split, images in (("train", 8), ("val", 4)):
        assert kdet("data", "inspect", "both", "--split", split, "--json").result["images"] == images


def test_report_writes_a_page_beside_the_run(job: dict[str, Path], kdet: Command) -> None:
    run = job["folder"] / "runs" / "small"
    ended = kdet("report", run, "--json")
    assert ended.status == 0, ended.err
    assert "structural" in Path(ended.result["page"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", set(DISTILLATION)),
        (
            "detectors",
            {"retinanet", "fcos", "faster_rcnn", "cascade_rcnn", "ssdlite", "atss", "gfl", "hf", "libreyolo"},
        ),
        ("formats", {"coco", "voc", "yolo", "csv", "shapes"}),
    ],
)
def test_list_shows_every_name(kdet: Command, what: str, names: set[str]) -> None:
    assert {row["name"] for row in kdet("list", what, "--json").result[what]} == names
    text = kdet("list", what).out
    assert all(name in text for name in names)
