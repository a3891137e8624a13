"""Files of every target find what the model finds, say what they are, and damaged ones are refused in a line."""

from pathlib import Path

import pytest
import torch

from export_fakes import batches, require, written
from fakes import CLASSES, DETECTOR_NAMES, batch_for, same_state, state_of, tiny
from kdet.errors import InputError
from kdet.export import TARGETS, ExportedDetector, about_export, compare, open_exported


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> ExportedDetector:
    """A whole RetinaNet: any number of images, pixels in, detections out."""
    require("onnx")
    return written(tmp_path_factory.mktemp("onnx"), tiny())


@pytest.fixture(scope="module")
def pt2(tmp_path_factory: pytest.TempPathFactory) -> ExportedDetector:
    """A whole SSDlite."""
    return written(tmp_path_factory.mktemp("pt2"), tiny("ssdlite"), "pt2")


def test_the_file_finds_what_the_model_finds_on_batches_of_any_size(onnx):
    detector = tiny()
    before = state_of(detector.model)
    parity = compare(detector, onnx, batches())
    assert parity.good, str(parity)
    assert parity.images == 5
    assert parity.detections > 100
    assert parity.box_px < 0.01
    assert same_state(before, state_of(detector.model))


def test_the_file_of_another_model_is_told_apart(onnx):
    parity = compare(tiny(seed=1), onnx, batches())
    assert not parity.good
    assert parity.alone > 0


def test_a_file_that_scores_a_little_otherwise_is_told_apart(onnx):
    detector = tiny()
    with torch.no_grad():
        detector.model.head.classification_head.cls_logits.bias.add_(0.1)
    parity = compare(detector, onnx, batches())
    assert not parity.good
    assert parity.score > 0.01


def test_the_file_says_all_that_is_needed_to_feed_it(onnx):
    detector = tiny()
    about = onnx.about
    assert about.class_names == ("__background__", *CLASSES)
    assert about.size_hw == (96, 96)
    assert about.image_size == 96
    assert about.batch is None
    assert about.mean == pytest.approx((0.485, 0.456, 0.406))
    assert about.normalises
    assert about.selects
    assert about.selection == detector.selection
    assert sum(about.counts) > 0


def test_images_that_do_not_fill_the_input_or_do_not_fit_it_come_back_in_their_own_pixels(onnx):
    detector = tiny()
    batch = batch_for(detector)
    found = onnx.predict(batch)
    for one, (height, width) in zip(found, batch.sizes_hw, strict=True):
        assert one.boxes[:, 2].max() <= width
        assert one.boxes[:, 3].max() <= height
    twice = torch.nn.functional.interpolate(batch.images, scale_factor=2, mode="bilinear")
    sizes = [(2 * h, 2 * w) for h, w in batch.sizes_hw]
    larger = onnx.predict(type(batch)(images=twice, sizes_hw=sizes, original_sizes_hw=sizes, image_ids=[0, 1, 2]))
    assert larger[0].boxes.max() > 100, "boxes in pixels of the larger image"


@pytest.mark.long
def test_pixels_may_be_normalised_and_candidates_selected_outside(tmp_path):
    detector = tiny("fcos")
    bare = written(tmp_path, detector, "pt2", normalises=False, selects=False)
    assert not bare.about.normalises
    assert not bare.about.selects
    scores, boxes = bare.outputs(torch.rand(2, 3, 96, 96))
    assert scores.shape == (2, sum(bare.about.counts), 4)
    assert boxes.shape == (2, sum(bare.about.counts), 4)
    parity = compare(detector, bare, batches())
    assert parity.good, str(parity)
    assert parity.detections > 100


@pytest.mark.long
def test_torch_export_finds_what_the_model_finds(pt2):
    assert_finds_the_same(tiny("ssdlite"), pt2)


@pytest.mark.parametrize("to", ["executorch", "litert"])
def test_every_target_finds_what_the_model_finds(tmp_path, to):
    assert_finds_the_same(tiny(), written(tmp_path, tiny(), to))


def assert_finds_the_same(detector, exported):
    parity = compare(detector, exported, batches())
    assert parity.good, str(parity)
    assert parity.detections > 100
    assert exported.about.class_names == detector.class_names


@pytest.mark.long
def test_a_file_finds_the_same_under_autocast(pt2):
    (batch, *_) = batches()
    inputs = pt2.inputs(batch)
    expected = pt2.outputs(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = pt2.outputs(inputs)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.long
def test_openvino_rounds_only_where_it_is_left_to_itself(tmp_path):
    """By itself it computes in bf16 or fp16 where the processor has such instructions, and boxes move by pixels."""
    detector = tiny()
    exported = written(tmp_path, detector, "openvino")
    assert_finds_the_same(detector, exported)
    assert exported.precision == "fp32" and compare(detector, exported, batches()).box_px < 0.01
    left = open_exported(exported.path, in_fp32=False)
    assert left.precision == TARGETS["openvino"].own_precision()
    rounds = compare(detector, left, batches()).score > 1e-4
    assert rounds == (left.precision != "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "pt2"])
@pytest.mark.parametrize("name", DETECTOR_NAMES)
def test_every_family_becomes_a_file(tmp_path, name, to):
    detector = tiny(name)
    parity = compare(detector, written(tmp_path, detector, to), batches())
    assert parity.good, str(parity)
    assert parity.detections > 20


@pytest.mark.long
def test_a_model_in_training_mode_is_exported_as_it_predicts_and_stays_in_its_mode(tmp_path):
    detector = tiny()
    detector.model.train()
    exported = written(tmp_path, detector, "pt2")
    assert detector.model.training
    assert compare(detector, exported, batches()).good


@pytest.mark.parametrize("to", sorted(TARGETS))
@pytest.mark.parametrize("content", [b"", b"no model", bytes(range(256)) * 40])
def test_damaged_files_are_refused_in_one_line(tmp_path, to, content):
    require(to)
    path = tmp_path / f"broken{TARGETS[to].suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="broken") as caught:
        open_exported(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "theirs.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.rand(2),)), path)
    with pytest.raises(InputError, match="was not written by `kdet export`"):
        open_exported(path)


def test_what_is_asked_of_a_file_beyond_detections_is_refused(onnx):
    with pytest.raises(InputError, match="gives detections alone"):
        onnx.observe(batch_for(tiny()), frozenset())
    with pytest.raises(InputError, match="gives detections alone"):
        onnx.native_state()


def test_sizes_that_strides_do_not_divide_are_refused():
    with pytest.raises(InputError, match="multiples of 32"):
        about_export(tiny(), size_hw=(100, 96), batch=None, normalises=True, selects=True)


def test_no_such_file(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        open_exported(tmp_path / "absent.onnx")
