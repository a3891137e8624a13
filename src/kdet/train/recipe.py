"""The recipe: every setting once, with its meaning beside it. Strict: an unknown key is an error."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model, model_validator

from kdet.data.resize import image_size_of
from kdet.data.shapes import Shapes
from kdet.data.transforms import Augmentation
from kdet.data.validate import OnBadBox
from kdet.detectors import Inherit
from kdet.errors import InputError


def _image_size(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return image_size_of([int(side) for side in value])
    return value


ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_image_size)]
"""Long side, or [short side, limit of the long side], in pixels."""


def bf16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 in hardware; a CPU without AVX-512 is some 15 times slower with it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _precision(value: Any) -> Any:
    return ("bf16-mixed" if bf16_is_fast() else "fp32") if value == "auto" else value


_Precision = Literal["fp32", "bf16-mixed", "fp16-mixed"]
Precision = Annotated[_Precision, BeforeValidator(_precision, json_schema_input_type=Literal["auto"] | _Precision)]
"""Settled when the recipe is read, so that a run's record says what it was made with."""


class _Strict(BaseModel):
    """Unknown keys are errors; the docstring under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class Unlabelled(_Strict):
    """Images without labels: terms on features learn from them, everything else from the teacher's confident boxes."""

    images: str
    """A folder, or `rest`: the training images that `labels` leaves out."""
    per_batch: Annotated[int, Field(ge=1)] = 8
    """How many are added to each batch and process."""
    score: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The teacher's boxes from this score on are taken for objects."""


class _AnyData(_Strict):
    """Which of the images are used."""

    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images that is used, always the same ones; a quarter is part of the half."""
    hold_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Validate on this share of the training images, in place of `val`: for choices that must not see it."""
    unlabelled: Unlabelled | None = None
    """Images beside the labelled ones, for a student that has a teacher."""


class FileData(_AnyData):
    """Images on the disk."""

    format: Literal["coco", "voc", "yolo"]
    train: Path
    """COCO: annotation file or folder; VOC: folder; YOLO: data.yaml. Relative to where the command is typed."""
    val: Path
    """The same for validation; may be the same folder when its format names the splits."""
    images: Path | None = None
    """Folder of the images where it is not the usual one."""
    image_size: ImageSize = (800, 1333)
    """Long side, or [short side, limit], in pixels; padded to a multiple of 32."""
    augment: Augmentation = Augmentation()
    """What happens to training images at random."""
    on_bad_box: OnBadBox = "fix"
    """fix: clip up to 1 px, drop boxes without area, anything else is an error; error: any; drop: drop them all."""


_GENERATOR_FIELDS: Any = {f.name: (f.type, f.default) for f in fields(Shapes)}
_GeneratorKeys: Any = create_model("_GeneratorKeys", __base__=_AnyData, **_GENERATOR_FIELDS)
"""The generator's parameters as recipe keys; they are written down once, in kdet.data.shapes."""


class ShapesData(_GeneratorKeys):  # pyright: ignore[reportUntypedBaseClass]
    """Generated images: the keys of `kdet.data.shapes.Shapes`."""

    format: Literal["shapes"]
    augment: Augmentation = Augmentation()
    """What happens to training images at random."""

    @model_validator(mode="after")
    def _in_range(self) -> "ShapesData":
        self.shapes()
        return self

    def shapes(self) -> Shapes:
        """The generator's own parameters."""
        return Shapes(**self.model_dump(include=set(_GENERATOR_FIELDS)))


class ModelRecipe(_Strict):
    """A detector from plain arguments; `kdet list detectors` shows the names."""

    detector: str
    """retinanet, fcos, faster_rcnn, cascade_rcnn, ssdlite, atss, gfl, or hf: a detection model of transformers."""
    config: dict[str, Any] | None = None
    """hf with random weights: its `model_type`, and what is not to be transformers' default."""
    backbone: str | None = None
    """resnet10 … resnet152, resnext…, mobilenet_v3_…; None = resnet50 (ssdlite: mobilenet_v3_large)."""
    weights: str | None = None
    """A weights file, or torchvision's weights by name; None = random. hf: a folder, or a name on the hub."""
    backbone_weights: str | None = None
    """The same for the backbone alone."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """Normalisation of the backbone; torchvision's own detector weights were made with, and are exact under, frozen."""
    trainable_layers: Annotated[int, Field(ge=0, le=5)] = 5
    """0 (backbone frozen) … 5 (all trained)."""
    width: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Channel multiplier of resnet10/18/34 and MobileNetV3."""
    fpn_channels: Annotated[int, Field(gt=0, multiple_of=8)] = 256
    """Channels of the neck."""
    head_norm: bool | None = None
    """GroupNorm in RetinaNet's head; None = where the neck is narrower than 256."""
    anchor_scale: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the anchor sizes, 1 = 32…512 px (ATSS and GFL: 64…1024 px)."""


class StudentRecipe(ModelRecipe):
    """The detector to train."""

    inherit: Inherit | None = None
    """Start from the teacher's weights where names and shapes agree: neck; head = neck and head; all."""


class TermRecipe(BaseModel):
    """One method; keys beside these are the method's own arguments (`kdet list methods`)."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    method: str
    """A name of `kdet list methods`."""
    name: str | None = None
    """What the log calls it; None = the method's name."""
    weight: float | Literal["auto"] | None = None
    """None = the method's default; auto = measured against the task's gradient."""
    share: Annotated[float, Field(gt=0)] = 0.5
    """Of `weight: auto`: pull of all auto terms together, 1 = as hard as the task losses."""
    strides: list[int] | None = None
    """Only the neck's levels of these strides, such as [8, 16, 32]; None = all that are paired."""
    schedule: dict[Literal["warmup", "decay", "stop"], float] = {}
    """Fractions of the run: rise to full weight until, fall from, off from."""
    placebo: bool = False
    """This term is meant to do nothing."""


class _AnyTeacher(_Strict):
    """How a teacher fits the student, wherever it comes from."""

    class_map: dict[str, str] = {}
    """Teacher's class name → student's, where they differ."""
    image_size: ImageSize | None = None
    """Input size of the teacher alone, as of `data`; it sees the same crops. None = the student's."""
    resize: bool = True
    """Whether levels of other strides are paired, by resizing the teacher's maps."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the weights of its terms; for several teachers."""
    distill: list[TermRecipe] | None = None
    """What is learned from this teacher; None = the recipe's `distill:`."""
    name: str | None = None
    """Stands before the names of its terms; None = t1, t2, … where there are several teachers."""


class RunTeacher(_AnyTeacher):
    """A teacher that kdet trained."""

    run: Path
    """Its run folder, or its student.safetensors."""


class BuiltTeacher(ModelRecipe, _AnyTeacher):
    """A teacher from weights."""

    classes: list[str] | None = None
    """Its class names; None = what the weights say, else those of the data."""


class FoundationTeacher(_AnyTeacher):
    """A pretrained backbone that teaches features alone."""

    foundation: str
    """Its name, such as vit_small_patch14_dinov2 or convnext_tiny; of transformers also a folder or a kind."""
    library: Literal["timm", "transformers"] = "timm"
    """Whose model it is."""
    weights: str | None = None
    """pretrained = the library's own; a file; None = random."""
    options: dict[str, Any] = {}
    """Of the library's constructor, such as depth; out_indices chooses the levels."""

    @property
    def origin(self) -> str | None:
        """Where its weights come from; None = nowhere, they are random."""
        return f"{self.library}'s {self.foundation}" if self.weights == "pretrained" else self.weights


def _kind_of_teacher(value: Any) -> str:
    """Which of them is meant, so that a mistake in it is explained by its own keys."""
    kinds = {"foundation": FoundationTeacher, "detector": BuiltTeacher}
    for key, kind in kinds.items():
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return kind.__name__
    return "RunTeacher"


def _how_many(value: Any) -> str:
    return "several" if isinstance(value, list) else "one"


OneTeacher = RunTeacher | BuiltTeacher | FoundationTeacher
Teacher = Annotated[
    Annotated[RunTeacher, Tag("RunTeacher")]
    | Annotated[BuiltTeacher, Tag("BuiltTeacher")]
    | Annotated[FoundationTeacher, Tag("FoundationTeacher")],
    Discriminator(_kind_of_teacher),
]
Teachers = Annotated[
    Annotated[Teacher, Tag("one")] | Annotated[list[Teacher], Field(min_length=1), Tag("several")],
    Discriminator(_how_many),
]
TAGS = ("RunTeacher", "BuiltTeacher", "FoundationTeacher", "one", "several")
"""What pydantic puts into the place of an error beside the recipe's own keys."""


class TrainRecipe(_Strict):
    """The training loop."""

    epochs: Annotated[int, Field(ge=1)] = 12
    """Passes over the training images."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop earlier, after so many optimizer steps."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Images per step and process."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum 0.9, or AdamW."""
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """L2 for SGD, decoupled for AdamW."""
    lr_schedule: Literal["step", "cosine", "constant"] = "cosine"
    """step: a tenth after 8/12 and again after 11/12 of the run; cosine: to zero."""
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Linear rise of the learning rate; at most a tenth of the run."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches per optimizer step."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated and saved."""
    precision: Precision = "fp32"
    """auto = bf16-mixed where the machine is fast with it, else fp32; fp16-mixed needs a GPU."""
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    """Epochs between looks at AP; 0 = at the end only."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load images."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between records in the log."""
    seed: int = 0
    """Weights, order and augmentation."""


ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Names a folder of runs."""


class Recipe(_Strict):
    """One run."""

    data: Annotated[FileData | ShapesData, Field(discriminator="format")]
    student: StudentRecipe
    teacher: Teachers | None = None
    distill: list[TermRecipe] = []
    arms: dict[ArmName, Annotated[list[TermRecipe], Field(min_length=1)]] = {}
    """For `kdet compare` alone: other `distill:` lists by name."""
    train: TrainRecipe = TrainRecipe()

    @model_validator(mode="after")
    def _terms_need_a_teacher(self) -> "Recipe":
        for name, verb in (("distill", "needs"), ("arms", "need")):
            if getattr(self, name) and self.teacher is None:
                raise InputError(f"{name}: {verb} a teacher; add `teacher: {{run: …}}`")
        if self.data.unlabelled and self.teacher is None:
            raise InputError("data: unlabelled: needs a teacher that finds the objects; add `teacher: {run: …}`")
        if self.data.unlabelled and self.data.unlabelled.images == "rest" and self.data.labels == 1:
            raise InputError("data: unlabelled: rest: all images are labelled; set `labels: 0.25`, or name a folder")
        if "none" in self.arms:
            raise InputError("arms: `none` is the student without a teacher; give this arm another name")
        if self.student.inherit and self.teacher is None:
            raise InputError("student: inherit needs a teacher; add `teacher: {run: …}`, or leave `inherit` out")
        return self

    @property
    def teachers(self) -> tuple[OneTeacher, ...]:
        """All of them, none or one or several."""
        if self.teacher is None:
            return ()
        return tuple(self.teacher) if isinstance(self.teacher, list) else (self.teacher,)

    def alone(self) -> "Recipe":
        """The same student without anything of a teacher."""
        student = self.student.model_copy(update={"inherit": None})
        data = self.data.model_copy(update={"unlabelled": None})
        return self.model_copy(update={"data": data, "student": student, "teacher": None, "distill": [], "arms": {}})
