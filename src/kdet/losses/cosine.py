"""Cosine alignment: each cell's feature vector points where the teacher's does.

Legend: N images, C channels, H W height and width of a level.
"""

from torch import Tensor

from kdet.ops.pairs import Levels, attached_zero, pair_levels, refuse_nan
from kdet.ops.precision import full_precision
from kdet.ops.reduce import reduce_map
from kdet.ops.ssim.scale import FLOOR, FLOOR_SHARE


def cosine_loss(student: Levels, teacher: Levels) -> Tensor:
    """Compute one minus the cosine between the two feature vectors of each cell.

    Paper: Liao, Zhao, Shan, Yan, Liu, Lu, Ji, Chen, "RT-DETRv4: Painlessly Furthering Real-Time Object Detection with
    Vision Foundation Models", 2025, https://arxiv.org/abs/2510.25257, its Deep Semantic Injector.

        L = Σ_levels mean over n, h, w of 1 − ⟨S_nhw, T_nhw⟩ / (‖S_nhw‖ ‖T_nhw‖)

    | symbol | argument              | paper                                                                      |
    |--------|-----------------------|----------------------------------------------------------------------------|
    | S      | `student`             | F5, the map of stride 32 behind RT-DETR's intra-scale attention            |
    | T      | `teacher`             | patch features of a frozen foundation model (DINOv3 ViT-B)                 |
    | φ      | the caller's 1×1 conv | a light projector on F5, thrown away after training                        |
    | —      | the caller's weight   | follows the ratio of the gradients' norms (GAM), as `weight: auto` does    |

    Args:
        student: The student's levels, one N×C×H×W map or a list of them.
        teacher: The same of the teacher, of the same shapes; no gradient goes there.

    Returns:
        A scalar; float64 if an input is, else float32.

    Raises:
        ValueError: levels or shapes differ, integer tensors, NaN (on the CPU; elsewhere the loss is NaN).

    Examples:
        >>> import torch
        >>> from kdet.losses import cosine_loss
        >>> student = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
        >>> teacher = torch.tensor([1.0, 1.0]).reshape(1, 2, 1, 1)  # at an angle of 45°
        >>> round(cosine_loss(student, teacher).item(), 4)
        0.2929

    Deviations: equation and set-up are ours from the paper's abstract and reviews of it; its code was not read. Every
    paired level counts; `strides: [32]` is the paper's choice. S is what the neck hands to the decoder, after the
    fusion of scales, not the map before it. A norm counts as at least 1 % of the image's mean norm, and 1e-6, lest a
    dead cell take over the gradient; two equal vectors below it cost more than 0. Maps of another size are for the
    caller to resize.
    """
    levels = pair_levels(student, teacher)
    with full_precision(levels[0][0]):
        loss = sum((_level_loss(s, t) for s, t in levels), start=levels[0][0].new_zeros(()))
    return refuse_nan(loss, student=student, teacher=teacher)


def _level_loss(student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    if student_NCHW.numel() == 0:
        return attached_zero(student_NCHW)
    return reduce_map(1 - (_directions(student_NCHW) * _directions(teacher_NCHW)).sum(1))


def _directions(features_NCHW: Tensor) -> Tensor:
    """Each cell's vector at length 1."""
    squared_N1HW = features_NCHW.square().sum(1, keepdim=True)
    floor_N111 = (FLOOR_SHARE * squared_N1HW.detach().sqrt().mean((2, 3), keepdim=True)).clamp_min(FLOOR)
    # The floor comes before the root, which has no finite derivative at 0.
    return features_NCHW * squared_N1HW.maximum(floor_N111.square()).rsqrt()
