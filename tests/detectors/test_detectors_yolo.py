"""Modules with the structure of ultralytics' YOLO, recognised without that library; tests/foreign has the real ones."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.ops import nms

import kdet
from fakes import images_and_targets, same_state, state_of
from kdet.detectors.exportable import Exportable
from kdet.errors import InputError
from kdet.types import Batch, Need, Target
from oracles import CANVAS, NEVER, SURE, Says, ap_of, maps_of, objects, two_bins
from yolo_fakes import BINS, Decaying, Yolo, yolo

CLASSES = ("circle", "square", "triangle")
ALL = frozenset({Need.FEATURES, Need.CLASS_LOGITS, Need.BOXES, Need.EDGE_LOGITS, Need.ASSIGNMENT, Need.LOSSES})
ANSWERS = ("dict", "list", "two branches")
TESTS = Path(__file__).resolve().parents[1]


def batch_of(detector) -> Batch:
    """Labels here have no background before them."""
    images, targets = images_and_targets()
    own = [Target(boxes=t["boxes"], labels=t["labels"] - 1) for t in targets]
    detector.image_size = 96
    return detector.batch(images, own)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("training", [True, False])
def test_reveals_what_stands_at_each_cell(answer, training):
    model = yolo(answer=answer).train(training)
    detector = kdet.wrap(model, CLASSES)
    assert [(level.channels, level.stride) for level in detector.levels] == [(8, 8), (12, 16)]
    batch = batch_of(detector)
    seen = detector.observe(batch, ALL, batch.targets)
    assert [tuple(f.shape) for f in seen.features] == [(3, 8, 12, 12), (3, 12, 6, 6)]
    cells = 12 * 12 + 6 * 6
    assert seen.class_logits.shape == (3, cells, 3)
    assert seen.boxes.shape == (3, cells, 4)
    assert seen.edge_logits.shape == (3, cells, 4, BINS)
    assert seen.level_logits(seen.class_logits)[1].shape == (3, 3, 6, 6)
    head = model.model[3]
    at_head = head.cv3[1](seen.features[1])
    torch.testing.assert_close(seen.level_logits(seen.class_logits)[1], at_head)
    torch.testing.assert_close(detector.head_from(seen.features), seen.class_logits)


def test_boxes_lie_around_the_centres_of_the_cells():
    detector = kdet.wrap(yolo(), CLASSES)
    batch = batch_of(detector)
    seen = detector.observe(batch, ALL, batch.targets)
    place = 144 + 6 * 2 + 4  # stride 16: row 2, column 4
    bins = torch.arange(float(BINS))
    left, top, right, bottom = ((seen.edge_logits[0, place, e].softmax(0) * bins).sum() * 16 for e in range(4))
    expected = torch.stack([72 - left, 40 - top, 72 + right, 40 + bottom])
    torch.testing.assert_close(seen.boxes[0, place], expected)


def test_without_bins_the_head_says_distances():
    detector = kdet.wrap(yolo(bins=1), CLASSES)
    assert Need.EDGE_LOGITS not in detector.provides
    seen = detector.observe(batch_of(detector), frozenset({Need.BOXES}))
    raw = detector.model.model[3].cv2[0](seen.features[0])[0, :, 1, 3]
    expected = torch.stack([28 - raw[0] * 8, 12 - raw[1] * 8, 28 + raw[2] * 8, 12 + raw[3] * 8])
    torch.testing.assert_close(seen.boxes[0, 12 + 3], expected)


@pytest.mark.parametrize("answer", ANSWERS)
def test_losses_and_assignment_are_the_models_own(answer):
    model = yolo(answer=answer).train()
    detector = kdet.wrap(model, CLASSES)
    batch = batch_of(detector)
    seen = detector.observe(batch, ALL, batch.targets)
    grey = batch.images.clone()
    for image, (height, width) in zip(grey, batch.sizes_hw, strict=True):
        image[:, height:], image[:, :, width:] = 114 / 255, 114 / 255
    labels = {
        "img": grey,
        "batch_idx": torch.tensor([0.0, 0, 2, 2, 2]),
        "cls": torch.tensor([[0.0], [2], [1], [0], [2]]),
        "bboxes": torch.zeros(5, 4),
    }
    total, items = model.loss(labels)
    assert list(seen.losses) == list(items)
    torch.testing.assert_close(torch.stack(list(seen.losses.values())), total, atol=1e-6, rtol=1e-6)
    assert seen.assignment[:, :4].tolist() == [[0, 1, -1, -1], [-1, -1, -1, -1], [0, 1, 2, -1]]
    assert (seen.assignment[:, 4:] == -1).all()


def test_a_loss_that_changes_over_the_librarys_epochs_changes_over_the_run():
    model = yolo().train()
    model.args.epochs = 9
    model.init_criterion = lambda: Decaying(model)
    detector = kdet.wrap(model, CLASSES)
    batch, distiller = batch_of(detector), kdet.Distiller(detector)
    at_first = distiller(batch).total.item()  # nobody says how far the run is: as the model was built
    found = [distiller(batch, progress=progress).total.item() for progress in (0.0, 0.5, 1.0, 0.25)]
    expected = [at_first * weight / 0.8 for weight in (0.8, 0.45, 0.1, 0.625)]
    assert found == pytest.approx(expected, rel=1e-5)


def test_boxes_reach_the_loss_as_fractions_of_the_padded_input():
    model = yolo()
    given = []
    detector = kdet.wrap(model, CLASSES)
    batch = batch_of(detector)
    inner = model.loss
    model.loss = lambda labels, preds: given.append(labels) or inner(labels, preds)
    detector.observe(batch, ALL, batch.targets)
    x1, y1, x2, y2 = (batch.targets[0]["boxes"][0] / 96).tolist()
    assert given[0]["bboxes"][0].tolist() == pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def test_features_alone_do_not_run_the_head():
    model = yolo()
    detector = kdet.wrap(model, CLASSES)
    batch = batch_of(detector)
    before = model.model[3].runs
    detector.observe(batch, frozenset({Need.FEATURES}))
    assert model.model[3].runs == before
    assert not model.model[3]._forward_pre_hooks


def by_hand(model: Yolo, detector, batch: Batch, scores_AK: torch.Tensor, boxes_A4: torch.Tensor, size_hw):
    """The rule as loops: every class above the threshold, NMS class by class, the best 300."""
    kept = []
    for label in range(scores_AK.shape[1]):
        rows = torch.where(scores_AK[:, label] > 0.001)[0]
        rows = rows[nms(boxes_A4[rows], scores_AK[rows, label], 0.7)]
        kept += [(float(scores_AK[row, label]), label, boxes_A4[row]) for row in rows]
    kept.sort(key=lambda each: -each[0])
    height, width = size_hw
    limit = torch.tensor([width, height, width, height])
    return [(score, label, box.clamp(min=0).minimum(limit)) for score, label, box in kept[:300]]


def test_predicts_by_the_librarys_rule():
    model = yolo().eval()
    detector = kdet.wrap(model, CLASSES)
    batch = batch_of(detector)
    with torch.no_grad():
        found = detector.predict(batch)
        seen = detector.observe(batch, ALL, batch.targets)
    for i, one in enumerate(found):
        expected = by_hand(model, detector, batch, seen.class_logits[i].sigmoid(), seen.boxes[i], batch.sizes_hw[i])
        assert 0 < len(expected) == len(one.scores)
        torch.testing.assert_close(one.scores, torch.tensor([score for score, _, _ in expected]))
        assert one.labels.tolist() == [label for _, label, _ in expected]
        torch.testing.assert_close(one.boxes, torch.stack([box for _, _, box in expected]))


def test_a_head_that_ends_by_itself_detects_with_its_second_branch_and_without_nms():
    model = yolo(answer="two branches").eval()
    detector = kdet.wrap(model, CLASSES)
    batch = batch_of(detector)
    with torch.no_grad():
        first = detector.candidates(batch.images).scores
        model.model[3].end2end = True
        second = detector.candidates(batch.images).scores
        found = detector.predict(batch)
    assert detector.selection.nms_iou is None
    assert not torch.allclose(first, second)
    maps = detector.observe(batch, frozenset({Need.FEATURES})).features
    own = torch.cat([last(m).flatten(2) for last, m in zip(model.model[3].other, maps, strict=True)], 2)
    best = own[0, -3:].sigmoid().flatten().sort(descending=True).values[:300]
    torch.testing.assert_close(found[0].scores, best)


def test_can_be_written_down_as_a_graph():
    detector = kdet.wrap(yolo().eval(), CLASSES)
    assert isinstance(detector, Exportable)

    class Core(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = detector.model

        def forward(self, images):
            found = detector.candidates(images)
            return found.scores, found.boxes

    images = torch.rand(2, 3, 64, 64)
    program = torch.export.export(Core().eval(), (images,))
    for ours, theirs in zip(program.module()(images), Core().eval()(images), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_hyperparameters_come_from_the_model_where_it_has_them():
    for given, cls in ((None, 0.5), ({"cls": 2.0, "imgsz": 320}, 2.0), (SimpleNamespace(cls=3.0), 3.0)):
        model = yolo()
        model.args = given
        detector = kdet.wrap(model, CLASSES)
        assert (model.args.box, model.args.cls, model.args.dfl) == (7.5, cls, 1.5)
        assert detector.image_size == (320 if isinstance(given, dict) else 640)
    complete = SimpleNamespace(box=1.0, cls=1.0, dfl=1.0, epochs=7)
    model = yolo()
    model.args = complete
    kdet.wrap(model, CLASSES)
    assert model.args is complete


def test_frozen_weights_of_a_checkpoint_are_thawed_for_training():
    model = yolo().requires_grad_(False)
    kdet.wrap(model, CLASSES)
    assert all(parameter.requires_grad for parameter in model.parameters())
    partly = yolo()
    partly.model[1].requires_grad_(False)
    kdet.wrap(partly, CLASSES)
    assert not any(parameter.requires_grad for parameter in partly.model[1].parameters())


def test_wrapping_and_observing_change_neither_weights_nor_mode_and_leave_it_copyable():
    model = yolo().train()
    model.model[1].eval()
    before = state_of(model)
    detector = kdet.wrap(model, CLASSES)
    assert same_state(before, state_of(model))
    assert model.training and not model.model[1].training
    batch = batch_of(detector)
    detector.observe(batch, ALL, batch.targets)
    assert same_state(state_of(copy.deepcopy(model)), state_of(model))
    assert same_state(state_of(pickle.loads(pickle.dumps(model))), state_of(model))


def test_another_module_takes_its_place_in_a_copy_alone():
    detector = kdet.wrap(yolo().eval(), CLASSES)
    other = yolo().eval()
    nn.init.constant_(other.model[3].cv3[0].weight, 0.0)
    second = copy.copy(detector)
    second.model = other
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(detector.candidates(images).scores, second.candidates(images).scores)
    assert detector.model is not other


def test_a_wrapper_around_it_is_opened():
    outer = nn.Module()
    outer.model = yolo()
    assert kdet.wrap(outer, CLASSES).model is outer.model


def test_refuses_other_names_other_heads_and_other_structures():
    with pytest.raises(InputError, match="expected 3 class names, one per class of the Yolo's head, got 2"):
        kdet.wrap(yolo(), CLASSES[:2])
    masks = yolo()
    inner = masks.model[3].forward
    masks.model[3].forward = lambda maps: (0, {**inner(maps)[1], "masks": 1})
    with pytest.raises(InputError, match="predicts something else than boxes and classes"):
        kdet.wrap(masks, CLASSES)
    headless = yolo()
    del headless.model[3].reg_max
    with pytest.raises(InputError, match="no adapter for a Yolo"):
        kdet.wrap(headless, CLASSES)


@pytest.mark.long
def test_neither_library_is_imported_for_it():
    code = (
        "import sys, json, kdet; from yolo_fakes import yolo; kdet.wrap(yolo(), ['a', 'b', 'c']); "
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in ('ultralytics', 'libreyolo')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TESTS, check=True)
    assert json.loads(done.stdout) == []


def test_an_activation_that_all_models_share_freezes_with_the_teacher_alone():
    shared = nn.ReLU()
    student, teacher = yolo(), yolo()
    student.model[1][2] = teacher.model[1][2] = shared
    kdet.wrap(teacher, CLASSES, frozen=True)
    detector = kdet.wrap(student, CLASSES)
    assert detector.model.train().model[1][2].training
    assert same_state(state_of(pickle.loads(pickle.dumps(student))), state_of(student))


def tensors_in(answer):
    """All of them, however they are nested."""
    if isinstance(answer, torch.Tensor):
        return [answer]
    parts = answer.values() if isinstance(answer, dict) else answer
    return [tensor for part in parts for tensor in tensors_in(part)]


@pytest.mark.parametrize("answer", ANSWERS)
def test_under_mixed_precision_the_loss_reads_float32_and_of_maps_their_sizes_alone(answer):
    model = yolo(answer=answer)
    detector = kdet.wrap(model, CLASSES)
    batch = batch_of(detector)
    read = []
    own = model.loss
    model.loss = lambda labels, said: read.append((said, torch.is_autocast_enabled("cpu"))) or own(labels, said)
    with torch.autocast("cpu", torch.bfloat16):
        seen = detector.observe(batch, ALL, batch.targets)
    ((said, mixed),) = read
    assert not mixed and all(tensor.dtype == torch.float32 for tensor in tensors_in(said))
    if answer == "dict":
        assert [tuple(m.shape) for m in said["feats"]] == [tuple(f.shape) for f in seen.features]
        assert all(m.untyped_storage().nbytes() == 4 for m in said["feats"])
    assert seen.features[0].dtype == torch.bfloat16
    assert {seen.class_logits.dtype, seen.boxes.dtype, seen.edge_logits.dtype} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize("answer", ["dict", "list"])
def test_an_oracle_finds_everything_far_from_the_corner(answer, precision):
    """Of 12 to 32 px at 800×1344; a cell's points and boxes are float32."""
    detector, target = kdet.wrap(yolo(answer=answer), CLASSES), objects(first_label=0)
    height, width = CANVAS[0] // 8, CANVAS[1] // 8
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = (torch.stack([x, y], -1).view(-1, 2) + 0.5) * 8
    cells = torch.cdist((target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2, points).argmin(1)
    edges = torch.cat([points[cells] - target["boxes"][:, :2], target["boxes"][:, 2:] - points[cells]], 1) / 8
    boxes, scores = torch.zeros(len(points), 4 * BINS), torch.full((len(points), 3), NEVER)
    boxes[cells] = two_bins(edges, BINS).flatten(1)
    scores[cells, target["labels"]] = SURE
    head = detector.model.model[3]
    for branch, said in ((head.cv2, boxes), (head.cv3, scores)):
        branch[0] = Says(*maps_of(said, [(height, width)], [1]))
        branch[1] = Says(torch.full((1, said.shape[1], height // 2, width // 2), NEVER))
    assert ap_of(detector, target, precision) >= 0.999
