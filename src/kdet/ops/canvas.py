"""Padded canvases: the student's, and the same one for a teacher of another input size."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from kdet.types import SizeHW

PAD_MULTIPLE = 32


def padded_hw(size_hw: tuple[float, float]) -> SizeHW:
    """The next size that every stride up to 32 divides."""
    height, width = (-(-round(side) // PAD_MULTIPLE) * PAD_MULTIPLE for side in size_hw)
    return height, width


def teacher_canvas(images: Sequence[Tensor], sizes_hw: Sequence[SizeHW], canvas_hw: SizeHW, scale: float) -> Tensor:
    """The images at `scale` times the student's size, so that a cell of one canvas is a cell of the other.

    Where `scale` times the canvas is no multiple of 32, the teacher's is rounded up and its images are stretched by as
    much, so that both canvases still show the same.

    Args:
        images: 3×H×W float in 0…1, the student's crops at any size.
        sizes_hw: what each image measures on the student's canvas.
        canvas_hw: the student's canvas.
        scale: of the teacher's input size to the student's.

    Returns:
        N×3×H×W, zero-padded.
    """
    height, width = padded_hw((canvas_hw[0] * scale, canvas_hw[1] * scale))
    canvas = images[0].new_zeros(len(images), 3, height, width)
    for slot, image, (h, w) in zip(canvas, images, sizes_hw, strict=True):
        size_hw = (round(h * height / canvas_hw[0]), round(w * width / canvas_hw[1]))
        if image.shape[-2:] != size_hw:
            image = F.interpolate(image[None], size_hw, mode="bilinear", antialias=True).clamp(0, 1)[0]
        slot[:, : size_hw[0], : size_hw[1]] = image
    return canvas
