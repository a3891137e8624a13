"""What stands here for your data and your detectors: generated images, torchvision models of random weights.

No word of kdet: the examples bring their own loops, and so would you.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

CLASSES = ("rectangle", "disc")
SIZE = 64


class TinyShapes(Dataset):
    """Images of one to three bright shapes on noise, in torchvision's convention; image i is always the same."""

    def __init__(self, images: int = 6) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        """3×64×64 in 0…1, and its boxes M×4 with labels M; 0 would be the background."""
        generator = torch.Generator().manual_seed(i)

        def draw(low: int, high: int) -> int:
            return int(torch.randint(low, high, (), generator=generator))

        image = 0.4 * torch.rand(3, SIZE, SIZE, generator=generator)
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        boxes, labels = [], []
        for _ in range(draw(1, 4)):
            width, height, label = draw(16, 44), draw(16, 44), draw(1, 3)
            left, top = draw(0, SIZE - width), draw(0, SIZE - height)
            across, down = (columns + 0.5 - left) / width - 0.5, (rows + 0.5 - top) / height - 0.5
            inside = across.abs().maximum(down.abs()) < 0.5 if label == 1 else across**2 + down**2 < 0.25
            image[:, inside] = 0.5 + 0.5 * torch.rand(3, 1, generator=generator)
            boxes.append([left, top, left + width, top + height])
            labels.append(label)
        return image, {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}


def collate(
    samples: list[tuple[Tensor, dict[str, Tensor]]],
) -> tuple[tuple[Tensor, ...], tuple[dict[str, Tensor], ...]]:
    """A tuple of images and a tuple of targets, as torchvision's detectors take them."""
    images, targets = zip(*samples, strict=True)
    return images, targets


def retinanet(backbone: str) -> nn.Module:
    """torchvision's RetinaNet; for a teacher you would load its trained weights."""
    return RetinaNet(_fpn(backbone), num_classes=1 + len(CLASSES), min_size=SIZE, max_size=SIZE)


def fcos(backbone: str) -> nn.Module:
    """torchvision's FCOS; for a teacher you would load its trained weights."""
    return FCOS(_fpn(backbone), num_classes=1 + len(CLASSES), min_size=SIZE, max_size=SIZE)


def _fpn(backbone: str) -> nn.Module:
    return resnet_fpn_backbone(
        backbone_name=backbone,
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and statistics."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether the model is as it was, bit for bit."""
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
