"""kdet beside libreyolo itself; `make test-foreign` installs it into an environment of its own."""

import copy
import importlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.ops import box_convert

pytest.importorskip("libreyolo", reason="needs libreyolo, in an environment of its own: make test-foreign")
import foreign_pairs as pairs
from libreyolo.models.rtmdet.loss import RTMDetLoss
from libreyolo.models.rtmdet.nn import LibreRTMDetModel
from libreyolo.models.yolo9.nn import LibreYOLO9Model
from libreyolo.models.yolox.nn import LibreYOLOXModel
from libreyolo.validation import preprocessors

import kdet
from fakes import images_and_targets, same_state
from kdet import detectors
from kdet.distill import Distiller, TeacherConfig
from kdet.distill.adapters import NoAdapter
from kdet.distill.methods import structural
from kdet.errors import InputError
from kdet.export import about_export, graph_of
from kdet.export.pt2_file import exported
from kdet.train import Recipe, load_detector
from kdet.types import Need, Target
from kdet.workflows.check.run import check

MODELS = {"yolov9": "t", "yolox": "n", "rtmdet": "t"}
LAST = (
    *pairs.LAST,
    *(f"{kind}.{level}.weight" for kind in ("cls_preds", "obj_preds", "rtm_cls") for level in range(3)),
)
ALL = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT, Need.LOSSES})


def bare(model, size=None):
    size = size or MODELS[model]
    if model == "yolov9":
        return LibreYOLO9Model(config=size, nb_classes=3)
    if model == "yolox":
        return LibreYOLOXModel(config=size, nb_classes=3)
    return LibreRTMDetModel(size=size, nc=3)


def built(model):
    torch.manual_seed(0)
    config = {"model": model, "size": MODELS[model]}
    detector = detectors.build("libreyolo", classes=pairs.CLASSES, config=config, image_size=pairs.SIZE)
    images, targets = images_and_targets()
    return detector, detector.batch(images, [Target(boxes=t["boxes"], labels=t["labels"] - 1) for t in targets])


def as_given(model, images):
    """What the module itself reads."""
    return images if model == "yolov9" else images.flip(1)


@pytest.mark.parametrize("model", MODELS)
def test_detections_are_the_librarys_own(model):
    detector, batch = built(model)
    images = detector._normalised(batch)
    pairs.enliven(detector.model, as_given(model, images), LAST)
    with torch.no_grad():
        found = detector.predict(batch)
    postprocess = importlib.import_module(
        f"libreyolo.postprocess.{'yolo9' if model == 'yolov9' else model}"
    ).postprocess
    for i, (one, (height, width)) in enumerate(zip(found, batch.sizes_hw, strict=True)):
        with torch.no_grad():
            answer = detector.model(as_given(model, images)[i : i + 1])
        size = tuple(images.shape[2:])
        # Its boxes are scaled back by one ratio; an image as large as the input leaves them as they are.
        if (height, width) != size:
            continue
        theirs = postprocess(answer, 0.001, 0.6, input_size=size, original_size=(width, height), max_det=300)
        assert len(one.scores) == len(theirs["scores"]) > 3
        found_there = [torch.tensor(theirs[key]) for key in ("scores", "classes", "boxes")]
        pairs.assert_same_found((one.scores, one.labels, one.boxes), found_there, score=1e-4, px=1e-3)


VALIDATORS = {"yolov9": "YOLO9", "yolox": "YOLOX", "rtmdet": "RTMDet"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size_hw", [(96, 128), (60, 80), (200, 100), (33, 500)])
def test_the_canvas_is_the_one_of_the_librarys_validator(model, size_hw):
    detector, _ = built(model)
    detector.image_size = 128
    image = torch.full((3, *size_hw), 200 / 255)
    batch = detector.batch([image])
    pixels = detector._normalised(batch)[0]
    preprocess = getattr(preprocessors, f"{VALIDATORS[model]}ValPreprocessor")((128, 128))
    theirs, _ = preprocess(np.full((*size_hw, 3), 200, np.uint8), np.zeros((0, 5)), (128, 128))
    theirs = torch.from_numpy(theirs).flip(0) if model == "rtmdet" else torch.from_numpy(theirs)  # blue, green, red
    torch.testing.assert_close(pixels, theirs, atol=2e-2, rtol=1e-3)


def theirs_of(model, module, images, targets):
    """The library's own losses on the same pixels, as its trainer asks for them."""
    most = max(len(t["boxes"]) for t in targets)
    rows = torch.zeros(len(targets), most, 5)
    for row, target in zip(rows, targets, strict=True):
        boxes = target["boxes"]
        if model == "yolox":
            boxes = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        row[: len(boxes), 0], row[: len(boxes), 1:] = target["labels"].float(), boxes
    if model == "yolov9":
        rows[..., 1:] /= images.shape[-1]
    if model != "rtmdet":
        return module(as_given(model, images), rows)
    logits, distances = module(as_given(model, images))
    loss = RTMDetLoss(num_classes=3)
    return loss(logits, distances, [t["boxes"] for t in targets], [t["labels"] for t in targets])


@pytest.mark.parametrize("model", MODELS)
def test_losses_are_the_librarys_own_and_every_weight_learns(model):
    detector, batch = built(model)
    twin = copy.deepcopy(detector.model).train()
    detector.model.train()
    seen = detector.observe(batch, ALL, batch.targets)
    total = torch.stack(list(seen.losses.values())).sum()
    theirs = theirs_of(model, twin, detector._normalised(batch), batch.targets)
    torch.testing.assert_close(total, theirs["total_loss"], atol=1e-5, rtol=1e-5)
    total.backward()
    assert all(p.grad is not None for p in detector.model.parameters() if p.requires_grad)
    assert (seen.assignment >= 0).any(1).tolist() == [True, False, True]
    assert [int(row.max()) for row in seen.assignment] == [1, -1, 2]
    centres = (seen.boxes[..., :2] + seen.boxes[..., 2:]).isfinite().all()
    assert bool(centres)


def test_yolox_ends_with_an_l1_loss_as_in_the_librarys_trainer():
    detector, batch = built("yolox")
    detector.model.train()
    needs = frozenset({Need.LOSSES})
    assert "l1_loss" not in detector.observe(batch, needs, batch.targets).losses
    for progress, closing in ((0.0, False), (0.94, False), (0.96, True), (1.0, True)):  # the last 15 of 300 epochs
        detector.at(progress)
        twin = copy.deepcopy(detector.model)
        twin.head.use_l1 = closing
        losses = detector.observe(batch, needs, batch.targets).losses
        theirs = theirs_of("yolox", twin, detector._normalised(batch), batch.targets)
        assert ("l1_loss" in losses) == closing
        torch.testing.assert_close(torch.stack(list(losses.values())).sum(), theirs["total_loss"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_teaches_and_learns_and_the_student_loads_back(model, tmp_path):
    student = pairs.libreyolo(model, MODELS[model])
    content = pairs.recipe(student, pairs.RETINANET, ["structural"])
    steps = pairs.trained(content, tmp_path / "run")
    assert steps[-1]["parts"]["structural"] > 0
    stored = load_file(tmp_path / "run" / "student-last.safetensors")
    theirs = bare(model)
    theirs.load_state_dict(stored)
    again = load_detector(tmp_path / "run" / "student-last.safetensors")
    assert same_state(theirs.state_dict(), again.model.state_dict())
    taught = pairs.recipe(pairs.RETINANET, {"run": str(tmp_path / "run")}, ["structural"])
    assert pairs.trained(taught, tmp_path / "next")[-1]["parts"]["structural"] > 0


def test_large_teaches_small_by_rank_mimicking_and_imitation(tmp_path):
    teacher = {"factory": "foreign_pairs:lively_yolov9", "options": {"size": "s"}}
    methods = ["structural", "rank_mimicking", "prediction_guided", "ld"]
    steps = pairs.trained(pairs.recipe(pairs.libreyolo("yolov9", "t"), teacher, methods), tmp_path / "run")
    assert all(any(part.startswith(method) for part in steps[-1]["parts"]) for method in methods)


def test_the_users_own_module_is_wrapped_and_wrong_configs_are_explained():
    assert kdet.wrap(bare("yolox"), pairs.CLASSES).family == "yolox"
    with pytest.raises(InputError, match="expected 3 class names"):
        kdet.wrap(bare("yolox"), pairs.CLASSES[:2])
    for config in ({"model": "yolov9"}, {"model": "yolo5", "size": "t"}, {"model": "yolox", "size": "n", "x": 1}):
        with pytest.raises(InputError, match=r"config: expected \{model: yolov9"):
            detectors.build("libreyolo", classes=pairs.CLASSES, config=config)
    with pytest.raises(InputError, match="libreyolo has no such yolox"):
        detectors.build("libreyolo", classes=pairs.CLASSES, config={"model": "yolox", "size": "q"})


SETS = {"d_fine": "n", "rt_detr_v2": "r18", "rt_detr_v4": "s"}
TRAINERS = {"d_fine": "dfine.trainer.DFINETrainer", "rt_detr_v4": "rtdetrv4.trainer.RTDETRv4Trainer"}
"""Those whose trainer builds the loss."""
BOX = torch.tensor([[8.0, 12.0, 40.0, 48.0]])
SET_SIZE = 256
"""The libraries choose 300 queries among the cells, so there must be as many."""


def set_detector(model):
    torch.manual_seed(0)
    config = {"model": model, "size": SETS[model]}
    return detectors.build("libreyolo", classes=pairs.CLASSES, config=config, image_size=SET_SIZE)


def criterion_of(model):
    """The loss that the library's own trainer of this model would use."""
    if model == "rt_detr_v2":
        return importlib.import_module("libreyolo.models.rtdetrv2.loss").RTDETRv2Loss(num_classes=3)
    module, name = TRAINERS[model].rsplit(".", 1)
    trainer = getattr(importlib.import_module(f"libreyolo.models.{module}"), name)
    own = trainer.__new__(trainer)
    own.config, own.device, own.wrapper_model = trainer._config_class()(num_classes=3), torch.device("cpu"), None
    return own.build_criterion()


@pytest.mark.parametrize("model", SETS)
def test_a_set_detectors_losses_are_the_librarys_own_and_every_weight_learns(model):
    detector = set_detector(model)
    assert all(parameter.requires_grad for parameter in detector.model.backbone.parameters())
    images, targets = images_and_targets()
    batch = detector.batch(images, [Target(boxes=t["boxes"], labels=t["labels"] - 1) for t in targets])
    twin = copy.deepcopy(detector.model).train()
    detector.model.train()
    torch.manual_seed(5)
    seen = detector.observe(batch, frozenset({Need.FEATURES, Need.QUERIES, Need.LOSSES}), batch.targets)
    for feature, level in zip(seen.features, detector.levels, strict=True):
        assert tuple(feature.shape[1:]) == (level.channels, SET_SIZE // level.stride, SET_SIZE // level.stride)
    labels = [
        {"labels": t["labels"], "boxes": box_convert(t["boxes"], "xyxy", "cxcywh") / SET_SIZE} for t in batch.targets
    ]
    torch.manual_seed(5)
    theirs = criterion_of(model)(twin(batch.images, targets=labels), labels)
    theirs = theirs["total_loss"] if "total_loss" in theirs else sum(theirs.values())
    total = torch.stack(list(seen.losses.values())).sum()
    torch.testing.assert_close(total, theirs, atol=1e-4, rtol=1e-5)
    total.backward()
    assert all(p.grad is not None for p in detector.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("model", SETS)
def test_a_set_detector_sees_the_square_of_the_librarys_validator(model):
    detector = set_detector(model)
    batch = detector.batch([torch.rand(3, 60, 80)], [Target(boxes=BOX, labels=torch.tensor([0]))])
    name = "RTDETRv2" if model == "rt_detr_v2" else "DFINE"
    preprocess = getattr(preprocessors, f"{name}ValPreprocessor")((SET_SIZE, SET_SIZE))
    scale = 1 if preprocess.wants_unresized_image else SET_SIZE / 80  # of what the library's data set hands over
    pixels, boxes = preprocess(
        np.zeros((round(60 * scale), round(80 * scale), 3), np.uint8),
        np.concatenate([BOX.numpy() * scale, [[0]]], 1),
        (SET_SIZE, SET_SIZE),
    )
    assert pixels.shape[1:] == tuple(batch.images.shape[-2:]) == (SET_SIZE, SET_SIZE)
    torch.testing.assert_close(batch.targets[0]["boxes"], torch.from_numpy(boxes[:1, :4]).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("model", SETS)
def test_a_set_detector_finds_what_the_library_finds(model):
    detector = set_detector(model)
    detector.model.eval()
    batch = detector.batch([torch.rand(3, SET_SIZE, SET_SIZE)])
    name = {"rt_detr_v2": "rtdetr", "d_fine": "dfine", "rt_detr_v4": "dfine"}[model]
    postprocess = importlib.import_module(f"libreyolo.postprocess.{name}").postprocess
    with torch.no_grad():
        found = detector.predict(batch)[0]
        answer = detector.model(batch.images)
    theirs = postprocess(answer, conf_thres=0.001, iou_thres=0.6, original_size=(SET_SIZE, SET_SIZE), max_det=300)
    torch.testing.assert_close(found.scores, torch.as_tensor(theirs["scores"], dtype=torch.float32), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", SETS)
def test_a_set_detector_learns_and_loads_back(model, tmp_path):
    content = pairs.recipe(pairs.libreyolo(model, SETS[model]), pairs.RETINANET, ["structural"])
    content["data"]["image_size"] = SET_SIZE
    content["train"]["max_steps"] = 1
    assert pairs.trained(content, tmp_path / "run")[-1]["parts"]["structural"] > 0
    stored = load_file(tmp_path / "run" / "student-last.safetensors")
    assert same_state(stored, load_detector(tmp_path / "run" / "student-last.safetensors").native_state())


def any_model(model):
    config = {"model": model, "size": (MODELS | SETS)[model]}
    return detectors.build("libreyolo", classes=pairs.CLASSES, config=config, image_size=SET_SIZE)


@pytest.mark.parametrize("model", [*MODELS, *SETS])
def test_every_model_teaches_every_model_with_the_default_adapter(model):
    """Where channels agree too; one family with itself needs no adapter, and takes none."""
    torch.manual_seed(0)
    student = any_model(model)
    paired_teachers = [
        TeacherConfig(teacher=any_model(other), terms=structural(), name=other) for other in [*MODELS, *SETS]
    ]
    pair = Distiller(student, teachers=paired_teachers).train()
    for other in [*MODELS, *SETS]:
        assert isinstance(pair.criterion.adapters[f"{other}/structural"], NoAdapter) == (other == model)
    images, targets = images_and_targets()
    batch = student.batch(images, [Target(boxes=t["boxes"], labels=t["labels"] - 1) for t in targets])
    report = pair(batch)
    report.total.backward()
    assert report.total.isfinite()


WEIGHTS = pairs.ROOT.parent / "shared" / "data" / "weights" / "yolox_nano_coco.safetensors"


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the pretrained YOLOX-nano of ../shared/data/weights is not here")
@pytest.mark.parametrize("method", ["structural", "prediction_guided"])
def test_check_of_a_pretrained_yolox_that_teaches_another(method):
    teacher = pairs.libreyolo("yolox", "n") | {
        "weights": str(WEIGHTS),
        "classes": [*pairs.CLASSES, *map(str, range(77))],
    }
    report = check(Recipe.model_validate(pairs.recipe(pairs.libreyolo("yolox", "n"), teacher, [method])))
    assert [problem.text for problem in report.problems if problem.status == "failed"] == []
    assert report.terms is not None


def test_other_classes_start_with_a_fresh_class_layer(tmp_path):
    for model in MODELS:
        config = {"model": model, "size": MODELS[model]}
        content = pairs.recipe(pairs.libreyolo(model, MODELS[model]), None, [])
        pairs.trained(content, tmp_path / model)
        notes = []
        detectors.build(
            "libreyolo",
            classes=["apple", "pear", "plum"],
            config=config,
            weights=str(tmp_path / model / "student-last.safetensors"),
            notes=notes.append,
        )
        assert "other classes, so the class layer starts fresh (6 tensors)" in notes[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("selects", [False, True], ids=["candidates", "detections"])
def test_the_student_is_written_down_as_it_computes_for_any_batch(model, selects):
    detector, batch = built(model)
    pairs.enliven(detector.model, batch.images, LAST)
    about = about_export(detector, size_hw=None, batch=None, normalises=True, selects=selects)
    graph, about = graph_of(detector, about)
    written = exported(graph, about).module()
    for images in (graph.example(1), graph.example(3)):
        # The model itself is no oracle: these weights blow the last digit of another memory format up to pixels.
        torch.testing.assert_close(written(images), graph(images))


SETS = {"rt_detr_v2": "r18", "d_fine": "n", "rt_detr_v4": "s"}


@pytest.mark.parametrize("model", [*MODELS, *SETS])
def test_the_backbone_is_the_librarys_and_yoloxs_pyramid_is_no_part_of_it(model):
    config = {"model": model, "size": (MODELS | SETS)[model]}
    detector = detectors.build("libreyolo", classes=pairs.CLASSES, config=config, image_size=pairs.SIZE)
    body = detector.model.backbone.backbone if model == "yolox" else detector.model.backbone
    inside = {id(p) for p in body.parameters()}
    assert {id(p) for p in detectors.backbone_parameters(detector)} == inside
    assert detectors.usual_backbone_lr(detector) == (0.1 if model in SETS else 1.0)


def test_with_weights_the_backbones_stem_is_frozen_as_the_library_freezes_it_statistics_too(tmp_path):
    def built_with(weights):
        config = {"model": "rt_detr_v2", "size": "r18"}
        return detectors.build(
            "libreyolo", classes=pairs.CLASSES, config=config, weights=weights, image_size=pairs.SIZE
        )

    fresh = built_with(None)
    assert all(p.requires_grad for p in fresh.model.backbone.parameters())
    save_file({k: v.contiguous() for k, v in fresh.native_state().items()}, tmp_path / "weights.safetensors")
    loaded = built_with(str(tmp_path / "weights.safetensors"))
    frozen = {name for name, p in loaded.model.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in loaded.model.backbone.named_parameters() if name.startswith("conv1.")}
    kdet.Distiller(loaded).train()
    norms = {name: m.training for name, m in loaded.model.backbone.named_modules() if hasattr(m, "running_mean")}
    assert {training for name, training in norms.items() if name.startswith("conv1.")} == {False}
    assert {training for name, training in norms.items() if not name.startswith("conv1.")} == {True}
