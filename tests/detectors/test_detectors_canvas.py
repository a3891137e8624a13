"""Every family has the canvas of its own library, keeps it in its weights file, and `batch` lays images on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models.detection import retinanet_resnet50_fpn, ssd300_vgg16

import kdet
from fakes import CLASSES, coco_of, images_and_targets, tiny
from kdet.data import DetectionDataset, FileSource, Pipeline, collate
from kdet.data.formats.coco import reader as coco
from kdet.detectors import build, read_weights, rebuild
from kdet.detectors.yolo.libreyolo_detr import LibreDetrDetector
from kdet.detectors.yolo.points import PointDetector
from kdet.errors import InputError
from kdet.train.state.run_folder import save_student
from kdet.workflows.predict import _batch_of as batch_of_predict
from kdet.workflows.speed import _pictures as pictures_of_speed
from yolo_fakes import yolo

CANVASES = {
    **dict.fromkeys(("retinanet", "fcos", "faster_rcnn", "cascade_rcnn", "atss", "gfl"), "pad"),
    "ssdlite": "stretch",
    "yolo": "letterbox",
    "wrapped": "pad",
    "wrapped, letterbox": "letterbox",
    **dict.fromkeys(("detr", "conditional_detr", "dab-detr", "table-transformer", "deformable_detr"), "pad"),
    **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "rf_detr", "lw_detr"), "stretch"),
}


def of_family(name: str) -> Any:
    """A small detector of it, at 96 px."""
    if name == "yolo":
        detector = kdet.wrap(yolo(), CLASSES)
        detector.image_size = 96
        return detector
    if name.startswith("wrapped"):
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1))
        canvas = {"canvas": "letterbox"} if "letterbox" in name else {}
        return kdet.wrap(module, features=["0"], strides=[2], image_size=96, **canvas)
    if name in ("retinanet", "fcos", "faster_rcnn", "cascade_rcnn", "atss", "gfl", "ssdlite"):
        return tiny(name)
    pytest.importorskip("transformers", reason="needs Hugging Face transformers")
    from detr_fakes import tiny_detr

    return tiny_detr(name)


@pytest.mark.parametrize("name", CANVASES)
def test_whatever_sees_images_sees_the_familys_canvas(name: str, tmp_path: Path) -> None:
    """60×80 at 96 px: 72×96 with the aspect kept, on 96×96 either way; 32×96, where 32 is enough, on pad alone."""
    detector, canvas = of_family(name), CANVASES[name]
    assert detector.canvas == canvas
    for height, width, kept, padded in ((60, 80, (72, 96), (96, 96)), (20, 80, (24, 96), (32, 96))):
        size = (96, 96) if canvas == "stretch" else kept
        laid = padded if canvas == "pad" else (96, 96)
        source = FileSource(coco.read(coco_of(tmp_path / f"{height}", [(height, width)], (8, 4, 40, 16))))
        pixels = source.read(0)
        own = detector.batch([pixels / 255], [{"boxes": torch.tensor([[8.0, 4, 40, 16]]), "labels": torch.tensor([1])}])
        pipeline = Pipeline(detector.image_size, canvas=detector.canvas)
        loaded = collate([DetectionDataset(source, pipeline)[0]])
        for batch in (own, loaded, batch_of_predict(pixels, detector, 0)):
            assert (batch.sizes_hw, tuple(batch.images.shape[-2:])) == ([size], laid)
            assert batch.original_sizes_hw == [(height, width)]
        ratios = torch.tensor([size[1] / width, size[0] / height] * 2)
        for batch in (own, loaded):
            torch.testing.assert_close(batch.targets[0]["boxes"], torch.tensor([[8.0, 4, 40, 16]]) * ratios)
    assert tuple(pictures_of_speed(96, detector.canvas, "cpu", 2).images.shape) == (2, 3, 96, 96)


def test_libreyolos_own_detectors_have_a_square() -> None:
    """The real ones are in tests/foreign."""
    assert (PointDetector.canvas, LibreDetrDetector.canvas) == ("letterbox", "stretch")


@pytest.mark.parametrize("side", [pytest.param(300, marks=pytest.mark.long), 320])
def test_ssd_finds_what_torchvision_finds_on_images_of_any_shape(side: int) -> None:
    """300 is no multiple of 32, and torchvision pads nothing."""
    if side == 300:
        model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).eval()
        detector = kdet.wrap(model, CLASSES)
    else:
        detector = tiny("ssdlite", image_size=side)
        model = detector.model.eval()
    images, _ = images_and_targets()
    batch = detector.batch(images)
    assert batch.images.shape[-2:] == (320, 320) and set(batch.sizes_hw) == {(side, side)}
    with torch.no_grad():
        expected, found = model(images), detector.predict(batch)
    for ours, theirs, (height, width) in zip(found, expected, batch.original_sizes_hw, strict=True):
        assert len(ours.scores) == len(theirs["scores"]) > 0
        torch.testing.assert_close(ours.scores, theirs["scores"], rtol=1e-4, atol=1e-5)
        scale = torch.tensor([width / side, height / side] * 2)
        torch.testing.assert_close(ours.boxes * scale, theirs["boxes"], rtol=1e-3, atol=1e-2)


def test_training_draws_one_of_torchvisions_own_short_sides() -> None:
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=(64, 96), max_size=128)
    detector = kdet.wrap(model, CLASSES)
    images = [torch.zeros(3, 50, 60)] * 12
    drawn = set(detector.batch(images).sizes_hw)
    assert drawn == {(64, 76), (96, 115)}
    model.eval()
    assert set(detector.batch(images).sizes_hw) == {(96, 115)}


@pytest.mark.parametrize("name", ["retinanet", "ssdlite", "yolo", "detr"])
def test_an_image_of_one_row_has_a_height(name: str) -> None:
    batch = of_family(name).batch([torch.zeros(3, 1, 500), torch.zeros(3, 500, 1)])
    assert min(side for size in batch.sizes_hw for side in size) >= 1


def test_transformers_own_processor_makes_the_same_targets() -> None:
    """RTDetrImageProcessor: its boxes are fractions of the square, centre and size."""
    transformers = pytest.importorskip("transformers", reason="needs Hugging Face transformers")
    processor = transformers.RTDetrImageProcessor(size={"height": 96, "width": 96})
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    box = {"image_id": 1, "category_id": 1, "bbox": [8, 4, 32, 12], "area": 384, "iscrowd": 0}
    said = processor(image, annotations={"image_id": 1, "annotations": [box]}, return_tensors="pt")
    detector = of_family("rt_detr")
    boxes = torch.tensor([[8.0, 4, 40, 16]])
    batch = detector.batch([image / 255], [{"boxes": boxes, "labels": torch.tensor([1])}])
    assert said["pixel_values"].shape == batch.images.shape
    cx, cy, w, h = (said["labels"][0]["boxes"][0] * 96).tolist()
    torch.testing.assert_close(
        batch.targets[0]["boxes"], torch.tensor([[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]])
    )


@pytest.mark.parametrize(
    ("size", "more", "canvas"),
    [
        ({"height": 96, "width": 96}, {"do_pad": False}, "stretch"),
        ({"shortest_edge": 64, "longest_edge": 96}, {"do_pad": True}, "pad"),
        ({"max_height": 96, "max_width": 96}, {"do_pad": True, "pad_size": {"height": 96, "width": 96}}, "letterbox"),
        (None, {}, "stretch"),
    ],
)
def test_the_processor_beside_the_weights_has_the_last_word(size: Any, more: Any, canvas: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs Hugging Face transformers")
    from detr_fakes import tiny_detr

    tiny_detr().model.save_pretrained(tmp_path)
    about = {"image_processor_type": "RTDetrImageProcessor", **({"size": size} if size else {}), **more}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    assert build("hf", classes=CLASSES, weights=str(tmp_path)).canvas == canvas
    assert build("hf", classes=CLASSES, weights=str(tmp_path), canvas="pad").canvas == "pad"


@pytest.mark.parametrize("canvas", ["pad", "letterbox", "stretch"])
def test_a_weights_file_keeps_its_canvas(canvas: Any, tmp_path: Path) -> None:
    detector = tiny("ssdlite", canvas=canvas)
    save_student(detector, detector.native_state(), tmp_path / "student.safetensors")
    again = rebuild(read_weights(tmp_path / "student.safetensors"))
    assert (again.canvas, again.image_size) == (canvas, 96)


def with_header(path: Path, **changes: Any) -> Path:
    """The same file with another header; None takes a key out."""
    with safe_open(path, framework="pt") as handle:
        metadata, state = handle.metadata(), {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    about = {key: value for key, value in {**json.loads(metadata["kdet"]), **changes}.items() if value is not None}
    save_file(state, path, metadata={**metadata, "kdet": json.dumps(about)})
    return path


def test_a_file_from_before_there_were_canvases_stays_on_the_one_that_it_was_trained_on(tmp_path: Path) -> None:
    detector = tiny("ssdlite")
    save_student(detector, detector.native_state(), tmp_path / "old.safetensors")
    assert rebuild(read_weights(with_header(tmp_path / "old.safetensors", canvas=None))).canvas == "pad"


@pytest.mark.parametrize("canvas", ["square", 3, {}])
def test_a_header_with_another_word_is_refused(canvas: Any, tmp_path: Path) -> None:
    detector = tiny("ssdlite")
    save_student(detector, detector.native_state(), tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="header is none that kdet wrote"):
        read_weights(with_header(tmp_path / "odd.safetensors", canvas=canvas))


def test_families_have_their_own_size_where_none_is_given() -> None:
    assert build("ssdlite", classes=CLASSES, width=0.25).image_size == 320
    assert build("retinanet", classes=CLASSES, backbone="resnet10", width=0.25).image_size == (800, 1333)


def test_a_square_has_one_side() -> None:
    detector = tiny("ssdlite", image_size=(64, 96))
    with pytest.raises(InputError, match=r"\[64, 96\].*canvas stretch is a square"):
        detector.batch([torch.zeros(3, 60, 80)])
    with pytest.raises(InputError, match="canvas letterbox is a square; give its side, such as image_size=640"):
        kdet.wrap(torch.nn.Conv2d(3, 4, 3, 2, 1), features=[""], strides=[2], canvas="letterbox")
