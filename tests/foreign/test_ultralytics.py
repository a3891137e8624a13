"""kdet beside ultralytics itself; `make test-foreign` installs it into an environment of its own."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

pytest.importorskip("ultralytics", reason="needs ultralytics, in an environment of its own: make test-foreign")
import foreign_pairs as pairs
from benchmarks.yolo_models import architecture, build, load_back
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.nn.tasks import DetectionModel, SegmentationModel
from ultralytics.utils.nms import non_max_suppression

import kdet
from fakes import images_and_targets, same_state
from kdet.cli.app import app
from kdet.detectors import backbone_parameters
from kdet.errors import InputError
from kdet.export import about_export, graph_of, open_exported
from kdet.export.pt2_file import exported
from kdet.train import Recipe, fit, load_detector
from kdet.types import Need, Target

GENERATIONS = ("yolov8", "yolo11", "yolo26")
ALL = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT, Need.LOSSES})
SMALL, NANO = 0.25, 0.125


def wrapped(name, **options):
    torch.manual_seed(0)
    detector = kdet.wrap(build(pairs.CLASSES, name, NANO, 0.33, **options), pairs.CLASSES)
    detector.image_size = pairs.SIZE
    images, targets = images_and_targets()
    return detector, detector.batch(images, [Target(boxes=t["boxes"], labels=t["labels"] - 1) for t in targets])


def settled(detector, images):
    """Scores as after some training: different in each cell."""
    pairs.enliven(detector.model, images, pairs.LAST)


@pytest.mark.parametrize("one_to_one", [False, True])
@pytest.mark.parametrize("name", GENERATIONS)
def test_detections_are_those_of_the_librarys_validator(name, one_to_one):
    if one_to_one and name != "yolo26":
        pytest.skip("has one branch")
    detector, batch = wrapped(name)
    images = detector._normalised(batch)
    settled(detector, images)
    detector.model.end2end = one_to_one
    with torch.no_grad():
        found = detector.predict(batch)
        answer = detector.model(images)
    theirs = non_max_suppression(answer[0].clone(), 0.001, 0.7, multi_label=True, max_det=300, end2end=one_to_one)
    for one, rows, (height, width) in zip(found, theirs, batch.sizes_hw, strict=True):
        assert len(one.scores) == len(rows) > 20
        torch.testing.assert_close(one.scores, rows[:, 4])
        assert one.labels.tolist() == rows[:, 5].tolist()
        limit = torch.tensor([width, height, width, height])
        torch.testing.assert_close(one.boxes, rows[:, :4].clamp(min=0).minimum(limit), atol=1e-3, rtol=0)


def test_detections_are_those_of_predict_on_the_same_image():
    torch.manual_seed(0)
    model = build(["thing"], "yolo11", NANO, 0.33)
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    detector = kdet.wrap(model, ["thing"])
    detector.image_size = 128
    detector.canvas = "pad"  # its predict takes the smallest rectangle; with `rect=False` the image is in the middle
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    batch = detector.batch([image])
    settled(detector, batch.images.repeat(2, 1, 1, 1))
    with torch.no_grad():
        found = detector.predict(batch)[0]
    library = YOLO("yolo11n.yaml", task="detect", verbose=False)
    library.model = model
    result = library.predict(pixels[..., ::-1].copy(), imgsz=128, conf=0.001, iou=0.7, max_det=300, verbose=False)[0]
    assert len(found.scores) == len(result.boxes) > 20
    theirs = result.boxes.conf, result.boxes.cls, result.boxes.xyxy
    # it fuses convolutions and norms
    pairs.assert_same_found((found.scores, found.labels, found.boxes), theirs, score=1e-3, px=0.1)


def test_the_canvas_has_the_size_of_the_librarys_own():
    """Its image stands in the middle, ours at the top left; both are as large."""
    letterbox = LetterBox((128, 128))
    for height, width in ((96, 128), (60, 80), (200, 100), (33, 500)):
        model = build(["thing"], "yolo11", NANO, 0.33)
        detector = kdet.wrap(model, ["thing"])
        detector.image_size = 128
        batch = detector.batch([torch.ones(3, height, width)])
        params = letterbox.get_params({"img": np.ones((height, width, 3), np.uint8)})
        assert letterbox(image=np.ones((height, width, 3), np.uint8)).shape[:2] == tuple(batch.images.shape[-2:])
        theirs = params["new_unpad"]  # width, height; rounded where kdet and libreyolo cut
        assert all(abs(a - b) <= 1 for a, b in zip(theirs[::-1], batch.sizes_hw[0], strict=True))


@pytest.mark.parametrize("name", GENERATIONS)
def test_losses_are_the_models_own_and_every_weight_learns(name):
    detector, batch = wrapped(name)
    detector.model.train()
    state = {key: value.clone() for key, value in detector.model.state_dict().items()}
    seen = detector.observe(batch, ALL, batch.targets)
    torch.stack(list(seen.losses.values())).sum().backward()
    assert all(p.grad is not None for p in detector.model.parameters() if p.requires_grad)
    assert (seen.assignment >= 0).any(1).tolist() == [True, False, True]
    assert [int(row.max()) for row in seen.assignment] == [1, -1, 2]

    bare = build(pairs.CLASSES, name, NANO, 0.33).train()
    bare.load_state_dict(state)
    bare.args = detector.model.args
    sizes = [target["boxes"] for target in batch.targets]
    boxes = torch.cat(sizes) / pairs.SIZE
    labels = {
        "img": detector._normalised(batch),
        "batch_idx": torch.tensor([i for i, own in enumerate(sizes) for _ in own]).float(),
        "cls": torch.cat([t["labels"] for t in batch.targets]).float()[:, None],
        "bboxes": torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1),
    }
    total, items = bare.loss(labels)
    assert list(seen.losses) == list(items)
    torch.testing.assert_close(torch.stack(list(seen.losses.values())), total, atol=1e-5, rtol=1e-5)


def test_one_to_many_gives_way_to_one_to_one_as_in_the_librarys_trainer():
    detector, batch = wrapped("yolo26")
    detector.model.args.epochs = 5
    needs = frozenset({Need.LOSSES})
    detector.model.train()

    def weights():
        return detector.model.criterion.o2m, detector.model.criterion.o2o

    detector.observe(batch, needs, batch.targets)
    assert weights() == pytest.approx((0.8, 0.2))  # nobody said how far the run is
    theirs = DetectionModel.init_criterion(detector.model)  # its trainer calls `update` after each epoch
    for epoch in range(5):
        detector.at(epoch / 4)
        detector.observe(batch, needs, batch.targets)
        assert weights() == pytest.approx((theirs.o2m, theirs.o2o))
        assert weights() == pytest.approx((0.8 - 0.175 * epoch, 0.2 + 0.175 * epoch))
        theirs.update()


def test_a_distiller_tells_its_student_how_far_the_run_is():
    found = []

    class ForwardProbe(kdet.Distiller):
        def forward(self, *given, **named):
            report = super().forward(*given, **named)
            found.append(self.model.criterion.o2m)
            return report

    detector, batch = wrapped("yolo26")
    distiller = ForwardProbe(detector).train()
    for step in range(5):
        distiller(batch, progress=step / 4)
    assert found == pytest.approx([0.8, 0.625, 0.45, 0.275, 0.1])


@pytest.mark.parametrize("name", GENERATIONS)
def test_large_teaches_nano_by_every_kind_of_method_and_the_student_loads_back(name, tmp_path):
    methods = ["structural", "rank_mimicking", "prediction_guided", "cwd", "soft_labels"]
    methods += [] if name == "yolo26" else ["ld"]
    student, teacher = pairs.factory(name, NANO), pairs.teacher(name, SMALL)
    steps = pairs.trained(pairs.recipe(student, teacher, methods), tmp_path / "run")
    parts = steps[-1]["parts"]
    assert all(any(part.startswith(method) for part in parts) for method in methods)
    assert all(np.isfinite(value) for value in parts.values())
    stored = load_file(tmp_path / "run" / "student-last.safetensors")
    theirs = load_back(stored, len(pairs.CLASSES), name, NANO, 0.33)
    again = load_detector(tmp_path / "run" / "student-last.safetensors")
    assert same_state(theirs.state_dict(), again.model.state_dict())


PAIRS = {
    "rt_detr → yolo": (pairs.factory("yolo11", NANO), pairs.RT_DETR, ["structural"]),
    "yolo → ssdlite": (pairs.SSDLITE, pairs.teacher("yolo11", NANO), ["structural"]),
    "faster_rcnn → yolo": (pairs.factory("yolo11", NANO), pairs.FASTER_RCNN, ["structural", "cwd"]),
    "yolo → retinanet": (pairs.RETINANET, pairs.teacher("yolo26", NANO), ["structural", "rank_mimicking"]),
    "yolo26 → yolov8": (pairs.factory("yolov8", NANO), pairs.teacher("yolo26", NANO), ["structural", "soft_labels"]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_other_families_train(name, tmp_path):
    student, teacher, methods = PAIRS[name]
    steps = pairs.trained(pairs.recipe(student, teacher, methods), tmp_path / "run")
    assert all(steps[-1]["parts"][method] > 0 for method in methods)


def test_a_moving_average_is_what_is_scored_and_a_run_goes_on(tmp_path):
    content = pairs.recipe(pairs.factory("yolo11", NANO), None, [], ema=0.9, max_steps=4)
    whole = fit(Recipe.model_validate(content), tmp_path / "whole")
    content["train"]["max_steps"] = 2
    fit(Recipe.model_validate(content), tmp_path / "parted")
    content["train"]["max_steps"] = 4
    fit(Recipe.model_validate(content), tmp_path / "parted", resume=True)
    assert whole.steps == 4
    files = [load_file(tmp_path / run / "student-last.safetensors") for run in ("whole", "parted")]
    assert files[0].keys() == files[1].keys()


def test_distills_from_the_command_line_where_code_is_allowed(tmp_path, monkeypatch):
    monkeypatch.delenv("KDET_ALLOW_CODE")
    content = pairs.recipe(pairs.factory("yolo11", NANO), pairs.teacher("yolo11", SMALL), ["structural"])
    file = pairs.write(content, tmp_path / "recipe.yaml")
    refused = CliRunner().invoke(app, ["distill", str(file), "--run", str(tmp_path / "no")])
    assert isinstance(refused.exception, InputError) and "--allow-code" in str(refused.exception)
    run = str(tmp_path / "run")
    done = CliRunner().invoke(app, ["distill", str(file), "--run", run, "--allow-code", "--json"])
    assert done.exit_code == 0, done.output
    assert "AP" in json.loads(done.stdout.splitlines()[-1])["metrics"]


def test_a_checkpoint_of_the_library_is_a_teacher(tmp_path):
    described = tmp_path / "small.yaml"
    described.write_text(json.dumps(architecture("yolo11", SMALL, 0.33) | {"nc": 3}))
    library = YOLO(described, task="detect", verbose=False)
    library.save(tmp_path / "teacher.pt")
    teacher = {"factory": pairs.FACTORY, "options": {"weights": str(tmp_path / "teacher.pt")}}
    content = pairs.recipe(pairs.factory("yolo11", NANO), teacher, ["structural"])
    steps = pairs.trained(content, tmp_path / "run")
    assert steps[-1]["parts"]["structural"] > 0


def test_heads_that_predict_more_than_boxes_are_refused():
    for model in (SegmentationModel("yolo11n-seg.yaml", nc=3, verbose=False), DetectionModel("rtdetr-l.yaml", nc=3)):
        with pytest.raises(InputError, match=r"predicts something else than boxes|no adapter for a"):
            kdet.wrap(model, pairs.CLASSES)


@pytest.mark.parametrize("name", GENERATIONS)
@pytest.mark.parametrize("selects", [False, True], ids=["candidates", "detections"])
def test_the_student_is_written_down_as_it_computes_for_any_batch(name, selects):
    detector, batch = wrapped(name)
    settled(detector, detector._normalised(batch))
    about = about_export(detector, size_hw=None, batch=None, normalises=True, selects=selects)
    graph, about = graph_of(detector, about)
    written = exported(graph, about).module()
    for images in (graph.example(1), graph.example(3)):
        # The model itself is no oracle: these weights blow the last digit of another memory format up to pixels.
        torch.testing.assert_close(written(images), graph(images))


def test_a_trained_student_becomes_a_file_with_nms_inside(tmp_path):
    """Through the command, which compares file and model on real pixels before it keeps the file."""
    pairs.trained(pairs.recipe(pairs.factory("yolo11", NANO), None, [], max_steps=60), tmp_path / "run")
    words = ["export", str(tmp_path / "run"), "--to", "onnx", "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["parity"]["detections"] > 0
    exported_file = open_exported(tmp_path / "out" / "student.onnx")
    assert exported_file.about.batch is None and exported_file.about.selects


@pytest.mark.parametrize(("name", "layers"), [("yolov8", 10), ("yolo11", 11), ("yolo26", 11)])
def test_the_backbone_is_what_the_librarys_description_calls_so(name, layers):
    detector, _ = wrapped(name)
    inside = {id(p) for layer in detector.model.model[:layers] for p in layer.parameters()}
    assert {id(p) for p in backbone_parameters(detector)} == inside
