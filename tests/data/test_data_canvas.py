"""Images and boxes on each canvas, and back: every number worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import coco_of
from kdet.data import Augmentation, DetectionDataset, FileSource, Pipeline, collate
from kdet.data.formats.coco import reader as coco
from kdet.errors import InputError
from kdet.evaluate import predict_loader
from kdet.types import Batch, Detections, Sample, Target

BOX = [[30.0, 45.0, 60.0, 90.0]]
"""In an image 120 wide and 90 high."""


def scene(height: int = 90, width: int = 120) -> tuple[torch.Tensor, Target]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    return image, Target(boxes=torch.tensor(BOX), labels=torch.tensor([0]))


@pytest.fixture
def sample_on(tmp_path: Path) -> Callable[..., Sample]:
    """One image on the disk with that box, as the dataset makes it."""

    def make(pipeline: Pipeline, height: int = 90, width: int = 120, box: Any = BOX[0]) -> Sample:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return DetectionDataset(FileSource(coco.read(coco_of(folder, [(height, width)], box))), pipeline)[0]

    return make


@pytest.mark.parametrize(
    ("canvas", "size", "canvas_hw", "box"),
    [
        ("pad", (96, 128), (96, 128), [32, 48, 64, 96]),  # 16/15 of it
        ("letterbox", (96, 128), (128, 128), [32, 48, 64, 96]),
        ("stretch", (128, 128), (128, 128), [32, 64, 64, 128]),  # x by 16/15, y by 64/45
    ],
)
def test_boxes_lie_where_their_pixels_do_and_come_back(
    canvas: Any, size: Any, canvas_hw: Any, box: Any, sample_on: Any
) -> None:
    batch = collate([sample_on(Pipeline(128, canvas=canvas))])
    assert batch.images.shape[-2:] == canvas_hw and batch.sizes_hw == [size]
    assert not batch.images[..., size[0] :, :].any(), "nothing lies below the image"
    assert batch.targets is not None
    torch.testing.assert_close(batch.targets[0]["boxes"], torch.tensor([box], dtype=torch.float32))
    (found,) = predict_loader(Oracle(), [batch], ["thing"], device="cpu")
    torch.testing.assert_close(torch.from_numpy(found.boxes_xyxy), torch.tensor([*BOX, [0.0, 0.0, 120.0, 90.0]]))


class Oracle:
    """Finds the objects of a batch, and one box that covers its whole canvas."""

    class_names = ("thing",)
    model = torch.nn.Identity()

    def predict(self, batch: Batch) -> list[Detections]:
        """All of them."""
        height, width = batch.images.shape[-2:]
        whole = torch.tensor([[0.0, 0.0, width, height]])
        boxes = [torch.cat([target["boxes"], whole]) for target in batch.targets or []]
        return [Detections(boxes=b, scores=torch.ones(len(b)), labels=torch.zeros(len(b)).long()) for b in boxes]


def test_a_square_does_not_hang_on_the_other_images_of_a_batch(sample_on: Any) -> None:
    pipeline = Pipeline(128, canvas="letterbox")
    wide, tall = sample_on(pipeline), sample_on(pipeline, 120, 60)
    assert {collate(samples).images.shape[-2:] for samples in ([wide], [tall], [wide, tall])} == {(128, 128)}
    assert collate([wide, tall]).sizes_hw == [(96, 128), (128, 64)]
    own = Pipeline(128)
    assert collate([sample_on(own)]).images.shape[-2:] == (96, 128)
    assert collate([sample_on(own, 120, 60)]).images.shape[-2:] == (128, 64)


@pytest.mark.parametrize("canvas", ["pad", "letterbox", "stretch"])
def test_corners_say_where_the_image_went_under_every_augmentation(canvas: Any) -> None:
    pipeline = Pipeline(64, Augmentation(flip=0.5, vertical_flip=0.5, scale=(0.5, 2.0)), canvas=canvas)
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        viewed = pipeline.viewed(*scene())
        size = viewed.image.shape[-2:]
        seen.add(tuple(size))
        (x0, y0), (x1, y1) = viewed.corners.tolist()
        xs, ys = sorted(x0 + x / 120 * (x1 - x0) for x in (30, 60)), sorted(y0 + y / 90 * (y1 - y0) for y in (45, 90))
        box = torch.tensor([xs[0], ys[0], xs[1], ys[1]])
        inside = box.clamp(min=0).minimum(torch.tensor([size[1], size[0]] * 2))
        if len(viewed.target["boxes"]):
            # key points are whole pixels, so that a corner is half a pixel of the file off at most
            torch.testing.assert_close(viewed.target["boxes"][0], inside, atol=1.1, rtol=0)
        assert max(size) <= 64
        if canvas == "stretch":
            assert size[0] == size[1]
    assert len(seen) > 5


def test_an_image_that_was_made_too_large_fills_the_square_as_far_as_it_goes() -> None:
    """120×90 at 1.2 of 64 px is 76×57 on a letterbox: the height stays whole, the width is cut to the square's."""
    larger = Augmentation(flip=0, scale=(1.2, 1.2))
    assert Pipeline(64, larger, canvas="letterbox")(*scene())[0].shape[-2:] == (57, 64)
    assert Pipeline(64, larger)(*scene())[0].shape[-2:] == (48, 64)
    assert Pipeline(64, larger, canvas="stretch")(*scene())[0].shape[-2:] == (64, 64)


@pytest.mark.parametrize("canvas", ["pad", "letterbox", "stretch"])
def test_a_teacher_of_another_size_sees_the_same_canvas(canvas: Any, sample_on: Any) -> None:
    batch = collate([sample_on(Pipeline(64, canvas=canvas, teacher_scale=2))], teacher_scale=2)
    assert batch.teacher_images is not None
    (height, width), (h, w) = batch.images.shape[-2:], batch.sizes_hw[0]
    assert batch.teacher_images.shape[-2:] == (2 * height, 2 * width)
    assert batch.for_teacher().sizes_hw == [(2 * h, 2 * w)]
    smaller = torch.nn.functional.avg_pool2d(batch.teacher_images, 2)[..., :h, :w]
    assert float((smaller - batch.images[..., :h, :w]).abs().mean()) < 0.05, "noise; a shift by a pixel gives 0.15"


@pytest.mark.parametrize("canvas", ["pad", "letterbox", "stretch"])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_lines_of_pixels_are_images(canvas: Any, scale: float, sample_on: Any) -> None:
    pipeline = Pipeline(64, Augmentation(flip=0, scale=(0.1, 2.0), crop=1.0), canvas=canvas, teacher_scale=scale)
    for height, width in ((1, 500), (500, 1), (1, 1)):
        batch = collate([sample_on(pipeline, height, width, (0, 0, width, height))], teacher_scale=scale)
        assert min(batch.sizes_hw[0]) >= 1 and min(batch.for_teacher().sizes_hw[0]) >= 1


@pytest.mark.parametrize("canvas", ["letterbox", "stretch"])
def test_a_square_without_its_side_is_refused_before_any_image_is_read(canvas: Any) -> None:
    with pytest.raises(InputError, match="is a square; give its side"):
        Pipeline((800, 1333), canvas=canvas)
