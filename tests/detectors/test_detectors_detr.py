"""What an adapter of transformers shows is what the bare model computes, and it computes no more than is asked for."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from detr_fakes import CONFIGS, STRIDES, every_type, shared_batch, tiny_detr
from kdet.detectors.hf.families import FAMILIES
from kdet.errors import InputError
from kdet.types import Batch, Detector, Need

READ_PADDING = ("deformable_detr", "rf_detr", "lw_detr", "conditional_detr", "dab-detr", "detr", "table-transformer")
DENOISING = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
FEATURES = frozenset({Need.FEATURES})
LOSSES = frozenset({Need.LOSSES})


def by_hand(kind: str, batch: Batch) -> dict[str, object]:
    """What a user of the bare library would hand to the model."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels, mask = batch.images.clone(), torch.zeros(batch.images[:, 0].shape, dtype=torch.int64)
    labels: list[dict[str, Tensor]] = []
    assert batch.targets is not None
    for i, ((h, w), target) in enumerate(zip(batch.sizes_hw, batch.targets, strict=True)):
        if kind not in DENOISING:
            pixels[i, :, :h, :w] = (pixels[i, :, :h, :w] - mean[:, None, None]) / std[:, None, None]
        mask[i, :h, :w] = 1
        height, width = (h, w) if kind in READ_PADDING else batch.images.shape[2:]
        boxes = box_convert(target["boxes"], "xyxy", "cxcywh") / torch.tensor([width, height, width, height])
        labels.append({"class_labels": target["labels"], "boxes": boxes})
    return {"pixel_values": pixels, "pixel_mask": mask, "labels": labels}


def reached(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Gradients by name, of the parameters that have one."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, grads, strict=True) if grad is not None}


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def calls(module: nn.Module) -> list[None]:
    """Grows by one with each call of the module."""
    seen: list[None] = []
    module.register_forward_pre_hook(lambda *_: seen.append(None))
    return seen


def test_every_type_is_tested():
    assert CONFIGS.keys() == FAMILIES.keys() == STRIDES.keys() == {*READ_PADDING, *DENOISING}


@every_type
def test_task_losses_and_their_gradients_are_those_of_the_bare_model(kind: str):
    detector = tiny_detr(kind)
    batch, model = shared_batch(detector), detector.model.train()
    torch.manual_seed(3)
    bare = model(**by_hand(kind, batch))
    torch.manual_seed(3)
    seen = detector.observe(batch, detector.provides, batch.targets)
    total = torch.stack(list(seen.losses.values())).sum()
    torch.testing.assert_close(total, bare.loss, rtol=1e-5, atol=1e-5)
    assert all(value.isfinite() and value >= 0 for value in seen.losses.values())
    ours, theirs = reached(total, model), reached(bare.loss, model)
    assert ours.keys() == theirs.keys() and len(ours) > 0.8 * len(list(model.parameters()))
    for name, grad in ours.items():
        torch.testing.assert_close(grad, theirs[name], rtol=1e-3, atol=1e-4, msg=name)


@every_type
def test_task_losses_have_a_gradient_at_the_features(kind: str):
    detector = tiny_detr(kind)
    batch = shared_batch(detector)
    detector.model.train()
    seen = detector.observe(batch, LOSSES, batch.targets)
    assert seen.features is not None
    for grad in torch.autograd.grad(torch.stack(list(seen.losses.values())).sum(), seen.features):
        assert grad.abs().max() > 0


@every_type
def test_features_lie_at_the_strides_that_the_levels_name(kind: str):
    detector = tiny_detr(kind)
    batch = shared_batch(detector)
    detector.model.eval()
    detector.model(pixel_values=batch.images)
    theirs = hooks_of(detector.model)  # the library's own stay from its first pass on
    seen = detector.observe(batch, FEATURES)
    assert tuple(level.stride for level in detector.levels) == STRIDES[kind]
    assert seen.features is not None and len(seen.features) == len(detector.levels)
    for level, feature in zip(detector.levels, seen.features, strict=True):
        assert feature.shape == (3, level.channels, *(-(-side // level.stride) for side in batch.images.shape[2:]))
    whole = detector.observe(batch, detector.provides, batch.targets)
    assert whole.features is not None
    assert all(torch.equal(a, b) for a, b in zip(seen.features, whole.features, strict=True))
    assert hooks_of(detector.model) == theirs


@every_type
def test_features_move_with_the_image(kind: str):
    """A bright corner changes the cells around it most: maps are not transposed, levels not mixed up."""
    detector = tiny_detr(kind)
    detector.model.eval()
    images = torch.zeros(3, 128, 192).expand(2, 3, 128, 192).clone()
    images[1, :, :32, 128:] = 1
    batch = detector.batch(list(images))
    maps = detector.observe(batch, FEATURES).features
    assert maps is not None
    change = (maps[0][1] - maps[0][0]).abs().sum(0)
    height, width = (side // 2 for side in change.shape)
    assert change[:height].mean() > change[-height:].mean() and change[:, -width:].mean() > change[:, :width].mean()


@every_type
def test_features_alone_need_no_decoder(kind: str):
    detector = tiny_detr(kind)
    batch = shared_batch(detector)
    detector.model.eval()
    decoder = calls(detector.model.model.decoder)
    seen = detector.observe(batch, FEATURES)
    assert not decoder and seen.query_logits is None and not seen.losses
    detector.observe(batch, frozenset({Need.QUERIES}))
    assert len(decoder) == 1


@every_type
def test_a_pass_that_stops_at_the_neck_leaves_the_model_as_it_was(kind: str):
    detector = tiny_detr(kind)
    batch = shared_batch(detector)
    detector.model.eval()
    queries = frozenset({Need.QUERIES})
    before = detector.observe(batch, queries).query_logits
    detector.observe(batch, FEATURES)
    after = detector.observe(batch, queries).query_logits
    assert before is not None and after is not None and torch.equal(before, after)


def settled(kind: str) -> Detector:
    """In training mode, but for statistics of the batch and chance."""
    detector = tiny_detr(kind)
    detector.model.train()
    for module in detector.model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
    return detector


@pytest.mark.parametrize("kind", [*DENOISING, "rf_detr", "lw_detr"])
def test_the_extra_queries_of_training_are_not_shown(kind: str):
    detector = settled(kind)
    batch = shared_batch(detector)
    shown = detector.observe(batch, detector.provides, batch.targets)
    detector.model.eval()
    alone = detector.observe(batch, frozenset({Need.QUERIES}))
    assert shown.query_logits is not None and shown.query_boxes is not None
    assert shown.query_logits.shape == (3, CONFIGS[kind]["num_queries"], 3)
    torch.testing.assert_close(shown.query_logits, alone.query_logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(shown.query_boxes, alone.query_boxes, rtol=1e-3, atol=1e-2)


@every_type
def test_predictions_are_legal_and_ordered(kind: str):
    detector = tiny_detr(kind, num_queries=40 if kind not in ("rf_detr", "lw_detr") else 8)
    batch = shared_batch(detector)
    detector.model.eval()
    with torch.no_grad():
        found = detector.predict(batch)
    assert len(found) == 3
    for one, (height, width) in zip(found, batch.sizes_hw, strict=True):
        assert 0 < len(one.scores) == len(one.boxes) == len(one.labels) <= 100
        assert torch.equal(one.scores, one.scores.sort(descending=True).values)
        assert one.scores.min() >= 0 and one.scores.max() <= 1
        assert one.labels.min() >= 0 and one.labels.max() < 3  # never "no object"
        assert (one.boxes[:, :2] >= 0).all() and (one.boxes[:, 2] <= width).all() and (one.boxes[:, 3] <= height).all()
        assert (one.boxes[:, 2:] >= one.boxes[:, :2]).all()


@pytest.mark.parametrize("kind", ["rt_detr", "detr"])
def test_predictions_are_those_of_the_librarys_own_image_processor(kind: str):
    from transformers import DetrImageProcessor, RTDetrImageProcessor

    detector = tiny_detr(kind)
    detector.model.eval()
    batch = detector.batch([torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(2))])
    with torch.no_grad():
        found = detector.predict(batch)[0]
        bare = detector.model(pixel_values=detector.transform.normalize(batch.images))
    processor = RTDetrImageProcessor() if kind == "rt_detr" else DetrImageProcessor()
    theirs = processor.post_process_object_detection(bare, threshold=0.0, target_sizes=[(96, 96)])[0]
    count, order = len(theirs["scores"]), theirs["scores"].argsort(descending=True, stable=True)
    assert count == 20  # of RT-DETR as many as it has queries
    torch.testing.assert_close(found.scores[:count], theirs["scores"][order])
    best = order[0]
    torch.testing.assert_close(found.boxes[0], theirs["boxes"][best].clamp(0, 96))
    assert found.labels[0] == theirs["labels"][best]


@every_type
def test_a_batch_without_objects_has_a_loss_and_a_gradient(kind: str):
    detector = tiny_detr(kind)
    batch = shared_batch(detector)
    assert batch.targets is not None
    empty = [batch.targets[1]] * 3
    detector.model.train()
    total = torch.stack(list(detector.observe(batch, LOSSES, empty).losses.values())).sum()
    assert total.isfinite()
    assert all(grad.isfinite().all() for grad in reached(total, detector.model).values())


def test_boxes_are_fractions_of_the_image_where_padding_is_known_and_of_the_whole_input_elsewhere():
    for kind, knows in (("detr", True), ("rt_detr", False)):
        detector = tiny_detr(kind)
        detector.canvas = "pad"
        detector.model.eval()
        batch = detector.batch([torch.rand(3, 48, 96), torch.rand(3, 96, 48)])
        shown = detector.observe(batch, frozenset({Need.QUERIES})).query_boxes
        mask = torch.zeros(2, 96, 96, dtype=torch.int64)
        mask[0, :48], mask[1, :, :48] = 1, 1
        inside = detector.transform.normalize(batch.images) * mask[:, None]
        bare = detector.model(pixel_values=inside, pixel_mask=mask).pred_boxes
        frames = [[96, 48, 96, 48], [48, 96, 48, 96]] if knows else [[96] * 4] * 2
        torch.testing.assert_close(shown, box_convert(bare, "cxcywh", "xyxy") * torch.tensor(frames)[:, None])


def test_levels_are_found_without_changing_mode_statistics_or_random_numbers():
    torch.manual_seed(5)
    model = tiny_detr().model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(6)
    expected = torch.rand(1)
    torch.manual_seed(6)
    from kdet.detectors import wrap

    wrap(model, ("circle", "square", "triangle"))
    assert torch.equal(torch.rand(1), expected)
    assert model.training and all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_images_are_padded_to_whole_windows_of_patches():
    """12 pixels a patch, 4 windows: 48 divides no multiple of 32 below 96."""
    config = CONFIGS["rf_detr"]["backbone_config"]
    detector = tiny_detr("rf_detr", backbone_config={**config, "patch_size": 12, "num_windows": 4, "image_size": 96})
    detector.model.eval()
    batch = detector.batch([torch.rand(3, 64, 64)])
    batch = type(batch)(**{**vars(batch), "images": batch.images[..., :64, :64], "sizes_hw": [(64, 64)]})
    seen = detector.observe(batch, frozenset({Need.FEATURES, Need.QUERIES}))
    assert seen.features is not None and seen.features[0].shape[2:] == (6, 6)  # of 8 in a side of 96
    assert seen.input_size_hw == (64, 64) and [level.stride for level in detector.levels] == [12]


def test_a_query_detector_scores_no_given_features():
    with pytest.raises(InputError, match="RTDetrForObjectDetection has no head that scores given features"):
        tiny_detr().head_from([])


def test_rf_detr_sees_a_square_and_shows_the_input_alone():
    """A wide image is what a square one with the same zeros below it is."""
    detector = tiny_detr("rf_detr")
    detector.canvas = "pad"
    detector.model.eval()
    image = torch.rand(3, 64, 96)
    wide = detector.batch([image])
    whole = detector.batch([image, torch.rand(3, 96, 96)])  # padded to 96×96
    assert wide.images.shape[2:] == (64, 96) and whole.images.shape[2:] == (96, 96)
    first = detector.observe(wide, frozenset({Need.FEATURES, Need.QUERIES}))
    second = detector.observe(whole, frozenset({Need.FEATURES, Need.QUERIES}))
    assert first.features is not None and second.features is not None
    assert first.features[0].shape[2:] == (4, 6)
    torch.testing.assert_close(first.features[0], second.features[0][:1, :, :4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.query_boxes, second.query_boxes[:1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["rf_detr", "lw_detr"])
def test_task_losses_have_a_gradient_at_features_that_are_cut_to_the_input(kind: str):
    detector = tiny_detr(kind)
    detector.canvas = "pad"
    batch = detector.batch([torch.rand(3, 64, 96)], [shared_batch(detector).targets[0]])
    config = CONFIGS[kind]["backbone_config"]
    windows = {"num_windows": 16, "num_windows_side": 4} if kind == "lw_detr" else {"num_windows": 4}
    detector = tiny_detr(kind, backbone_config={**config, **windows})
    detector.model.train()
    seen = detector.observe(batch, LOSSES, batch.targets)
    assert seen.features is not None and seen.features[0].shape[2:] == (4, 6)
    (grad,) = torch.autograd.grad(torch.stack(list(seen.losses.values())).sum(), seen.features)
    assert grad.abs().max() > 0
