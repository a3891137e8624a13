"""A plain PyTorch loop: torchvision's RetinaNet with a ResNet-18 learns from one with a ResNet-34.

    python examples/plain_pytorch.py OUT

writes OUT/student.pt, torchvision's own state_dict.
"""

import sys
from pathlib import Path

import torch
from tiny import CLASSES, TinyShapes, collate, retinanet, same, state_of
from torch.utils.data import DataLoader

import kdet

EPOCHS = 2


def main(out: Path) -> None:
    """Train for a few steps, and show what happened."""
    torch.manual_seed(0)
    teacher = kdet.wrap(retinanet("resnet34"), CLASSES, frozen=True)
    student = kdet.wrap(retinanet("resnet18"), CLASSES)
    distiller = kdet.Distiller(student, teacher, kdet.methods.structural() + kdet.methods.prediction_guided())
    # The student's parameters, and those of adapters and of losses that learn; none of the teacher's.
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=1e-4)
    loader = DataLoader(TinyShapes(), batch_size=2, shuffle=True, collate_fn=collate)
    teacher_before, student_before = state_of(teacher.model), state_of(student.model)

    distiller.train()
    steps = EPOCHS * len(loader)
    for epoch in range(EPOCHS):
        for i, (images, targets) in enumerate(loader):
            # Schedules of weights read `progress`; without a schedule it may be left out.
            report = distiller(images, targets, progress=(epoch * len(loader) + i) / steps)
            optimizer.zero_grad()
            report.total.backward()
            optimizer.step()
        print(f"epoch {epoch}", *(f"{name} {value.item():.4f}" for name, value in report.items()))

    out.mkdir(parents=True, exist_ok=True)
    torch.save(student.model.state_dict(), out / "student.pt")
    print("teacher as it was:", same(teacher.model, teacher_before))
    print("student as it was:", same(student.model, student_before))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
