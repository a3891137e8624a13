"""A loop with the calls and the structure of torchvision's reference training, and three added lines.

    python examples/torchvision_reference.py OUT

`model(images, targets)` gives a dict of losses, its values are summed, and `model(images)` in evaluation mode gives
detections. All of this the Distiller does as torchvision's models do, so that the loop stays as it is. In torchvision's
own references/detection/train.py the second and third line go below `model.to(device)`, in front of the wrapper of
several processes. Without the three lines this is a script of torchvision alone.
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from tiny import CLASSES, TinyShapes, collate, fcos
from torch import Tensor, nn
from torch.utils.data import DataLoader

import kdet  # added


def train_one_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader, device: str, epoch: int
) -> None:
    """Losses summed as they come; the first epoch warms the learning rate up."""
    model.train()
    warm_up = None
    if epoch == 0:
        warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.001, total_iters=len(loader) - 1)
    loss_dict: dict[str, Tensor] = {}
    for images, targets in loader:
        images = [image.to(device) for image in images]
        targets = [{key: value.to(device) for key, value in target.items()} for target in targets]
        loss_dict = model(images, targets)
        losses = sum(loss for loss in loss_dict.values())
        if not math.isfinite(losses.item()):
            sys.exit(f"the loss is {losses.item()}")
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
        if warm_up is not None:
            warm_up.step()
    print(f"epoch {epoch}", *(f"{name} {loss.item():.4f}" for name, loss in loss_dict.items()))


@torch.inference_mode()
def evaluate(model: nn.Module, loader: Iterable, device: str) -> None:
    """Here only a count of detections; yours computes AP."""
    model.eval()
    found = 0
    for images, _ in loader:
        outputs = model([image.to(device) for image in images])
        found += sum(len(output["boxes"]) for output in outputs)
    print(found, "detections")


def main(out: Path) -> nn.Module:
    """What train.py of the reference does, in its order."""
    torch.manual_seed(0)
    device = "cpu"
    loader = DataLoader(TinyShapes(), batch_size=2, shuffle=True, collate_fn=collate)
    model = fcos("resnet18").to(device)
    model_without_wrappers = model
    teacher = kdet.wrap(fcos("resnet34").to(device), CLASSES, frozen=True)  # added
    model = kdet.Distiller(kdet.wrap(model, CLASSES), teacher, kdet.methods.structural())  # added

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.005, momentum=0.9, weight_decay=1e-4)
    for epoch in range(2):
        train_one_epoch(model, optimizer, loader, device, epoch)
        evaluate(model, loader, device)
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model_without_wrappers.state_dict()}, out / "model.pth")
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]))
