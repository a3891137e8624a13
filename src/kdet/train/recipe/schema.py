"""The recipe: every setting once, with its meaning beside it. Strict: an unknown key is an error."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator

from kdet.errors import InputError
from kdet.train.recipe.data import FileData, ShapesData, Strict
from kdet.train.recipe.models import OneTeacher, StudentRecipe, Teachers, TermRecipe


def bf16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 in hardware; a CPU without AVX-512 is some 15 times slower with it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


_ONE_CELL_PX = {**dict.fromkeys(("retinanet", "fcos", "atss", "gfl"), 64), "ssdlite": 256}
"""Long side up to which a convolution of stride 2 reads a single cell: P7's reads P6, SSDlite's the level before."""


class TrainRecipe(Strict):
    """Settings of the training loop."""

    epochs: Annotated[int, Field(ge=1)] = 12
    """Number of passes over the training images."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Number of optimizer steps after which the run ends, if `epochs` are not over; None = no limit."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Number of images in a batch of one process."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer: SGD with momentum 0.9, or AdamW."""
    nesterov: bool | None = None
    """Whether SGD has Nesterov's momentum; None = as in the student's own library: true for YOLO, else false."""
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay, L2 for SGD and decoupled for AdamW; norms, biases and scales do not decay."""
    adapter_weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of adapters and of losses that learn."""
    backbone_lr: Annotated[float, Field(gt=0, le=10)] | None = None
    """Factor on the learning rate for the student's backbone; None = 0.1 for a pretrained set detector, else 1."""
    lr_schedule: Literal["step", "cosine", "constant"] = "cosine"
    """Course of the learning rate after the warm-up; step: a tenth after 8/12 and again after 11/12 of the run; cosine:
    to zero at the end; constant: none."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Number of optimizer steps in which the learning rate rises linearly; at most a tenth of the run."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the student's gradient, and of that of adapters and losses that learn, each by itself; None = no
    clipping."""
    skip_nonfinite: Annotated[int, Field(ge=0)] = 0
    """Number of steps in a row that are left out because their loss or gradient is not finite, before the run ends."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Number of batches in one optimizer step."""
    shard: bool = False
    """Whether torchrun's processes divide gradients and optimizer state among them, for models too large for one."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, reached by a ramp; the average is then evaluated and saved. None = no
    average."""
    precision: Literal["auto", "fp32", "bf16-mixed", "fp16-mixed"] = "fp32"
    """Precision of the networks; auto = bf16-mixed where the machine is fast and right with it, else fp32; fp16-mixed
    needs a GPU. Anchors, boxes, losses and evaluation are in float32 in any case."""
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    """Number of epochs from one evaluation to the next; 0 = at the end only."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Number of evaluations in a row without a new best AP after which the run ends; the learning rate falls as in the
    whole run. None = no early end."""
    save_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes from one saved state to the next within an epoch; after each epoch one is saved in any case."""
    workers: Annotated[int, Field(ge=0, le=512)] | Literal["auto"] = "auto"
    """Number of processes that load images; auto = none on the CPU, one to four beside a GPU, by the free
    processors."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Number of steps from one record in the log to the next."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    """Seed of the initial weights, the order of the images and the augmentation."""

    def stretched(self, times: int) -> "TrainRecipe":
        """The same loop in so many times the steps: the learning rate at step `times`·n is that at step n of this one.

        So are the looks at AP: as many as here, each so many times as far apart, and `patience` is the same part of
        the run.
        """
        keys = ("epochs", "max_steps", "warmup_steps", "evaluate_every")
        own = {key: getattr(self, key) for key in keys}
        return self.model_copy(update={key: value and value * times for key, value in own.items()})

    @model_validator(mode="after")
    def _patience_needs_looks(self) -> "TrainRecipe":
        if self.patience is not None and not self.evaluate_every:
            raise InputError(
                "patience counts looks at AP, and `evaluate_every: 0` takes none; set it to 1, or leave one out"
            )
        return self


ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Name of an arm, and of the folder of its runs."""


class Expected(Strict):
    """Published result, shown beside the own one; kdet draws nothing from it."""

    AP: Annotated[float, Field(ge=0, le=1)]
    """COCO's AP in 0…1."""
    source: Annotated[str, Field(min_length=1)]
    """Publication, and how sure the number is."""


class Recipe(Strict):
    """Settings of one run."""

    data: Annotated[FileData | ShapesData, Field(discriminator="format")]
    """Images for training and validation."""
    student: StudentRecipe
    """Detector to train."""
    teacher: Teachers | None = None
    """Teacher of the student, or a list of teachers; None = plain training."""
    distill: list[TermRecipe] = Field(default_factory=list[TermRecipe])
    """Methods by which the student learns from its teachers."""
    arms: dict[ArmName, list[TermRecipe]] = Field(default_factory=dict[str, list[TermRecipe]])
    """Other `distill:` lists by name, for `kdet compare` alone; [] = nothing but the boxes of `data: unlabelled:`."""
    expected: dict[str, Expected] = Field(default_factory=dict[str, Expected])
    """Published results of `none` and of arms by name, for `kdet compare` alone."""
    train: TrainRecipe = TrainRecipe()
    """Settings of the training loop."""

    _notes: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _terms_need_a_teacher(self) -> "Recipe":
        for name, verb, terms in (("distill", "needs", self.distill), ("arms", "need", any(self.arms.values()))):
            if terms and self.teacher is None:
                raise InputError(f"{name}: {verb} a teacher; add `teacher: {{run: …}}`")
        for name, terms in self.arms.items():
            if not terms and self.data.unlabelled is None:
                raise InputError(
                    f"arms: {name}: no terms, so nothing to learn from; name a method, or unlabelled images"
                )
        if self.data.unlabelled and self.teacher is None and not self.data.unlabelled.has_boxes:
            raise InputError("data: unlabelled: needs a teacher that finds the objects; add `teacher: {run: …}`")
        if self.data.unlabelled and self.data.unlabelled.images == "rest" and self.data.labels == 1:
            raise InputError("data: unlabelled: rest: all images are labelled; set `labels: 0.25`, or name a folder")
        if "none" in self.arms:
            raise InputError("arms: `none` is the student without a teacher; give this arm another name")
        if unknown := sorted(set(self.expected) - {"none", *self.arms}):
            raise InputError(f"expected: {unknown[0]}: is neither `none` nor under `arms:`; name one of those")
        if self.student.inherit and self.teacher is None:
            raise InputError("student: inherit needs a teacher; add `teacher: {run: …}`, or leave `inherit` out")
        return self

    @model_validator(mode="after")
    def _auto_is_settled(self) -> "Recipe":
        """Settle `auto` when the recipe is read, so that a run's record says what it was made with."""
        if self.train.precision != "auto":
            return self
        wanted = "bf16-mixed" if bf16_is_fast() else "fp32"
        precision = "fp32" if self.bf16_fault else wanted
        settled = self.model_copy(update={"train": self.train.model_copy(update={"precision": precision})})
        if precision != wanted:
            settled._notes = (f"train.precision: auto takes fp32 here, for {self.bf16_fault}",)
        return settled

    @property
    def notes(self) -> tuple[str, ...]:
        """What settling the recipe had to say."""
        return self._notes

    @property
    def bf16_fault(self) -> str | None:
        """What torch 2.15 gets wrong: bf16 gradients of a stride-2 convolution on a 1×1 map, on the CPU; else None."""
        size = self.data.image_size
        long_side = size if isinstance(size, int) else size[1]
        least = _ONE_CELL_PX.get(self.student.detector, 0)
        if torch.cuda.is_available() or long_side > least:
            return None
        return (
            f"bf16-mixed gives wrong gradients on the CPU where a level of {self.student.detector} is a single cell "
            f"(image_size {long_side}; images above {least} px are sound)"
        )

    @property
    def teachers(self) -> tuple[OneTeacher, ...]:
        """All of them, none or one or several."""
        if self.teacher is None:
            return ()
        return tuple(self.teacher) if isinstance(self.teacher, list) else (self.teacher,)

    @property
    def only_starts_from_teacher(self) -> bool:
        """Whether the student takes over weights of the first teacher, and learns from none."""
        learns = self.distill or self.data.unlabelled or any(teacher.distill for teacher in self.teachers)
        return bool(self.student.inherit) and not learns

    def boxes_only(self) -> "Recipe":
        """The same without distillation: what is left are the boxes of `data.unlabelled`."""
        own = [teacher.model_copy(update={"distill": None}) for teacher in self.teachers]
        teacher = None if not own else own if isinstance(self.teacher, list) else own[0]
        return self.model_copy(update={"distill": [], "teacher": teacher})

    def alone(self, *, inherit: bool = False) -> "Recipe":
        """The same student without anything of a teacher; with `inherit` it keeps the weights that it starts from."""
        data = self.data.model_copy(update={"unlabelled": None})
        common = self.model_copy(update={"data": data, "distill": [], "arms": {}, "expected": {}})
        if inherit and self.student.inherit:
            return common.model_copy(update={"teacher": self.teachers[0].model_copy(update={"distill": None})})
        student = self.student.model_copy(update={"inherit": None})
        return common.model_copy(update={"student": student, "teacher": None})
