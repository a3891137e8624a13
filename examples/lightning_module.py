"""A LightningModule: torchvision's FCOS with a ResNet-18 learns from a RetinaNet with a ResNet-34.

    python examples/lightning_module.py OUT

writes OUT/student.pt, torchvision's own state_dict. Lightning moves the teacher with the module and keeps it out of its
checkpoints: the Distiller sees to both.
"""

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from tiny import CLASSES, TinyShapes, collate, fcos, retinanet, same, state_of
from torch import Tensor, nn
from torch.utils.data import DataLoader

import kdet


class Distillation(lightning.LightningModule):
    """Student and teacher in Lightning's terms."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.distiller = kdet.Distiller(
            kdet.wrap(student, CLASSES), kdet.wrap(teacher, CLASSES), kdet.methods.structural()
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of one batch; every part of it is logged."""
        images, targets = batch
        report = self.distiller(images, targets, progress=self.global_step / self.trainer.estimated_stepping_batches)
        self.log_dict({name: value.detach() for name, value in report.items()}, batch_size=len(images))
        return report.total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The student's parameters, and those of adapters and of losses that learn."""
        return torch.optim.AdamW(self.distiller.parameters(), lr=1e-4)


def main(out: Path) -> None:
    """Train for a few steps, and show what happened."""
    torch.manual_seed(0)
    student, teacher = fcos("resnet18"), retinanet("resnet34")
    module = Distillation(student, teacher)
    student_before, teacher_before = state_of(student), state_of(teacher)
    trainer = lightning.Trainer(
        default_root_dir=out,
        accelerator="cpu",
        max_steps=4,
        logger=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, DataLoader(TinyShapes(), batch_size=2, shuffle=True, collate_fn=collate))

    torch.save(student.state_dict(), out / "student.pt")
    print(*(f"{name} {value.item():.4f}" for name, value in trainer.logged_metrics.items()))
    print("teacher as it was:", same(teacher, teacher_before))
    print("student as it was:", same(student, student_before))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
