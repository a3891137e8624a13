"""Hugging Face's Trainer: a small RT-DETR of transformers learns from torchvision's RetinaNet with a ResNet-34.

    python examples/hf_trainer.py OUT

writes the student into OUT as transformers does: `AutoModelForObjectDetection.from_pretrained(OUT)`. Another family and
another class layer: features are compared, adapters fit the channels, classes are matched by name.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from tiny import CLASSES, TinyShapes, collate, retinanet, same, state_of
from torch import Tensor, nn
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig, Trainer, TrainingArguments

import kdet


class DistillationTrainer(Trainer):
    """The Trainer with the Distiller's loss."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The total of one batch; every part of it is logged."""
        report = model(**inputs, progress=self.state.global_step / self.state.max_steps)
        self.log({name: value.item() for name, value in report.items()})
        return (report.total, report.parts) if return_outputs else report.total


def batch_of(samples: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Any]:
    """Arguments of the Distiller. transformers has no background column, so that labels start at 0."""
    images, targets = collate(samples)
    lowered = [{"boxes": target["boxes"], "labels": target["labels"] - 1} for target in targets]
    return {"images": list(images), "targets": lowered}


def rt_detr() -> RTDetrForObjectDetection:
    """A student of 0.3 M parameters, from its config."""
    stages = {"embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    backbone = RTDetrResNetConfig(**stages, out_features=["stage2", "stage3", "stage4"])
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[16, 32, 32],
        encoder_hidden_dim=32,
        encoder_ffn_dim=64,
        encoder_attention_heads=2,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=2,
        num_queries=20,
        num_denoising=0,
        id2label=dict(enumerate(CLASSES)),
    )
    return RTDetrForObjectDetection(config)


def main(out: Path) -> None:
    """Train for a few steps, and show what happened."""
    torch.manual_seed(0)
    teacher = kdet.wrap(retinanet("resnet34"), CLASSES, frozen=True)
    student = kdet.wrap(rt_detr(), CLASSES)
    distiller = kdet.Distiller(student, teacher, kdet.methods.structural())
    student_before, teacher_before = state_of(student.model), state_of(teacher.model)
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=4,
        per_device_train_batch_size=2,
        learning_rate=1e-4,
        max_grad_norm=0.1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    DistillationTrainer(distiller, arguments, data_collator=batch_of, train_dataset=TinyShapes()).train()

    student.model.save_pretrained(out)
    print("teacher as it was:", same(teacher.model, teacher_before))
    print("student as it was:", same(student.model, student_before))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
