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
"""Up to this long side a convolution of stride 2 reads a single cell: P7's reads P6, SSDlite's the level before."""


class TrainRecipe(Strict):
    """The training loop."""

    epochs: Annotated[int, Field(ge=1)] = 12
    """Passes over the training images."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop earlier, after so many optimizer steps."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Images per step and process."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum 0.9, or AdamW."""
    nesterov: bool | None = None
    """Nesterov's momentum in SGD; None = as the student's own library has it: true for YOLO, else false."""
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """L2 for SGD, decoupled for AdamW; norms, biases and scales do not decay."""
    adapter_weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """The same for what is learned beside the student: adapters, and losses that learn."""
    backbone_lr: Annotated[float, Field(gt=0, le=10)] | None = None
    """Factor on the learning rate of the student's backbone; None = 0.1 for a pretrained set detector, else 1."""
    lr_schedule: Literal["step", "cosine", "constant"] = "cosine"
    """step: a tenth after 8/12 and again after 11/12 of the run; cosine: to zero."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Linear rise of the learning rate; at most a tenth of the run."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the student's gradient, and of that of adapters and losses that learn, each by itself."""
    skip_nonfinite: Annotated[int, Field(ge=0)] = 0
    """Steps in a row whose loss or gradient is not finite that are left out, before the run ends."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches per optimizer step."""
    shard: bool = False
    """Divide gradients and optimizer state over the processes of torchrun, for models too large for one."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay, reached by a ramp, of a moving average of the weights, which is then what is evaluated and saved."""
    precision: Literal["auto", "fp32", "bf16-mixed", "fp16-mixed"] = "fp32"
    """auto = bf16-mixed where the machine is fast and right with it, else fp32; fp16-mixed needs a GPU. Anchors, boxes,
    losses and every look at AP are in float32 in any case."""
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    """Epochs between looks at AP; 0 = at the end only."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many looks at AP in a row without a new best; the learning rate falls as in the whole run."""
    save_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes from one saved state to the next within an epoch; after each epoch there is one in any case."""
    workers: Annotated[int, Field(ge=0, le=512)] | Literal["auto"] = "auto"
    """Processes that load images; auto = none on the CPU, one to four beside a GPU, by the processors that are free."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between records in the log."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    """Weights, order and augmentation."""

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
"""Names a folder of runs."""


class Expected(Strict):
    """A published number, shown beside ours; kdet draws nothing from it."""

    AP: Annotated[float, Field(ge=0, le=1)]
    """COCO's AP, as a fraction."""
    source: Annotated[str, Field(min_length=1)]
    """Where it was published, and how sure we are of it."""


class Recipe(Strict):
    """One run."""

    data: Annotated[FileData | ShapesData, Field(discriminator="format")]
    student: StudentRecipe
    teacher: Teachers | None = None
    distill: list[TermRecipe] = Field(default_factory=list[TermRecipe])
    arms: dict[ArmName, list[TermRecipe]] = Field(default_factory=dict[str, list[TermRecipe]])
    """For `kdet compare` alone: other `distill:` lists by name; [] = nothing but the boxes of `data: unlabelled:`."""
    expected: dict[str, Expected] = Field(default_factory=dict[str, Expected])
    """For `kdet compare` alone: what was published for `none` and for arms of these names."""
    train: TrainRecipe = TrainRecipe()

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
        """When the recipe is read, so that a run's record says what it was made with."""
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
