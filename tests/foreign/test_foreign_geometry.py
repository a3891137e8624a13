"""In libreyolo's and ultralytics' models an oracle finds everything in mixed precision, too; losses are float32's."""

from functools import cache

import pytest
import torch
from torch import nn
from torchvision.ops import box_convert

pytest.importorskip("libreyolo", reason="needs libreyolo, in an environment of its own: make test-foreign")
pytest.importorskip("ultralytics", reason="needs ultralytics, in an environment of its own: make test-foreign")
import foreign_pairs as pairs
from benchmarks.yolo_models import build

import kdet
from kdet import detectors
from oracles import CANVAS, NEVER, SURE, Says, ap_of, batch_of, objects, two_bins
from query_oracles import SaysRows, cells_of, of_queries, ranked, say, silence, wanted

LIBREYOLO = {"yolov9": "t", "yolox": "n", "rtmdet": "t"}
ULTRALYTICS = ("yolov8", "yolo11", "yolo26")
SETS = {"rt_detr_v2": "r18", "d_fine": "n"}
FAMILIES = (*LIBREYOLO, *ULTRALYTICS, *SETS)


def finest(target, stride, offset):
    """The finest cell nearest to each object, its point in pixels, and the grid."""
    height, width = CANVAS[0] // stride, CANVAS[1] // stride
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = (torch.stack([x, y], -1).view(-1, 2) + offset) * stride
    cells = torch.cdist(box_convert(target["boxes"], "xyxy", "cxcywh")[:, :2], points).argmin(1)
    return cells, points[cells], (height, width)


def said(cells, values, grid, fill):
    """One map that says the values at these cells."""
    flat = torch.full((grid[0] * grid[1], values.shape[1]), fill)
    flat[cells] = values
    return Says(flat.view(*grid, -1).permute(2, 0, 1)[None])


def classes_of(target):
    logits = torch.full((len(target["labels"]), 3), NEVER)
    logits[torch.arange(len(logits)), target["labels"]] = SURE
    return logits


def put(layers, at, finest_layer, fill):
    """The finest level says it; the other levels find nothing."""
    for level, layer in enumerate(layers):
        last = finest_layer if level == 0 else constant(at(layer), fill)
        if isinstance(layer, nn.Sequential):
            layer[-1] = last
        else:
            layers[level] = last


def constant(layer, value):
    layer = nn.Conv2d(layer.in_channels, layer.out_channels, 1)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer


def last_of(layer):
    return layer[-1] if isinstance(layer, nn.Sequential) else layer


def points_oracle(name):
    """A model that scores a point a cell."""
    target = objects(first_label=0)
    offset = {"rtmdet": 0.0, "yolox": 0.0}.get(name, 0.5)
    cells, points, grid = finest(target, 8, offset)
    edges = torch.cat([points - target["boxes"][:, :2], target["boxes"][:, 2:] - points], 1) / 8
    torch.manual_seed(0)
    if name in ULTRALYTICS:
        detector = kdet.wrap(build(pairs.CLASSES, name, 0.125, 0.33), pairs.CLASSES)
        head = detector.model.model[-1]
        boxes, scores = head.cv2, head.cv3
    else:
        config = {"model": name, "size": LIBREYOLO[name]}
        detector = detectors.build("libreyolo", classes=pairs.CLASSES, config=config, image_size=1344)
        head = detector.model.head
        boxes, scores = {
            "yolov9": lambda: (head.cv2, head.cv3),
            "yolox": lambda: (head.reg_preds, head.cls_preds),
            "rtmdet": lambda: (head.rtm_reg, head.rtm_cls),
        }[name]()
    if name == "yolox":
        middles = box_convert(target["boxes"], "xyxy", "cxcywh")
        edges = torch.cat([(middles[:, :2] - points) / 8, (middles[:, 2:] / 8).log()], 1)
        put(head.obj_preds, last_of, said(cells, torch.full((len(cells), 1), SURE), grid, NEVER), NEVER)
    elif getattr(head, "reg_max", 1) > 1:
        edges = two_bins(edges, head.reg_max).flatten(1)
    branches = [(boxes, scores)]
    if name == "yolo26":  # the other branch finds, and both train
        branches.append((head.one2one_cv2, head.one2one_cv3))
    for boxes, scores in branches:
        put(boxes, last_of, said(cells, edges, grid, 1.0), 1.0)
        put(scores, last_of, said(cells, classes_of(target), grid, NEVER), NEVER)
    return detector, target


def set_oracle(name):
    """Its best cells become queries, refined by nothing."""
    target = objects(first_label=0)
    torch.manual_seed(0)
    config = {"model": name, "size": SETS[name]}
    detector = detectors.build("libreyolo", classes=pairs.CLASSES, config=config, image_size=1344)
    decoder = detector.model.decoder
    decoder.num_denoising = 0
    boxes = wanted(target)
    strides = tuple(level.stride for level in detector.levels)
    cells, chosen = cells_of(boxes, strides)
    offsets = boxes.logit() - cells[chosen].logit()
    every = torch.zeros_like(cells)
    every[chosen] = offsets
    queries = decoder.num_queries
    decoder.enc_score_head = SaysRows(decoder.enc_score_head, ranked(chosen, len(cells), 3))
    say(decoder.enc_bbox_head, every, of_queries(offsets, 0.0, queries))
    silence(*decoder.dec_bbox_head)
    if hasattr(decoder, "pre_bbox_head"):
        silence(decoder.pre_bbox_head, *(layer.reg_conf for layer in decoder.decoder.lqe_layers))
    for i, layer in enumerate(decoder.dec_score_head):
        decoder.dec_score_head[i] = SaysRows(layer, of_queries(classes_of(target), NEVER, queries))
    return detector, target


@cache
def oracle(name):
    return set_oracle(name) if name in SETS else points_oracle(name)


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_oracle_finds_everything(name, precision):
    assert ap_of(*oracle(name), precision) >= 0.999


@pytest.mark.parametrize("name", FAMILIES)
def test_losses_assignment_and_boxes_are_those_of_float32(name):
    """The head says the same numbers in both precisions, so nothing may differ."""
    detector, target = oracle(name)
    batch = batch_of(target)
    detector.model.train()

    def look():
        torch.manual_seed(0)
        return detector.observe(batch, detector.provides, batch.targets)

    exact = look()
    with torch.autocast("cpu", torch.bfloat16):
        seen = look()
    assert seen.losses
    for key, value in seen.losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact.losses[key], rtol=1e-4, atol=1e-5)
    for key in ("class_logits", "quality_logits", "boxes", "edge_logits", "assignment", "query_logits", "query_boxes"):
        if (value := getattr(seen, key)) is not None:
            assert value.dtype in (torch.float32, torch.int64), key
            torch.testing.assert_close(value, getattr(exact, key), rtol=1e-5, atol=1e-3)
    assert seen.features[0].dtype == torch.bfloat16
