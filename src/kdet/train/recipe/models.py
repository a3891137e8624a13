"""The recipe's `student:`, `teacher:` and `distill:`: detectors, and what is learned from whom."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from kdet.detectors import FACTORY, Inherit
from kdet.distill import RATIO
from kdet.errors import InputError
from kdet.train.recipe.data import ImageSize, Strict


def _either(schema: dict[str, Any]) -> None:
    """For editors: `detector:` is required, or `factory:`."""
    schema["required"].remove("detector")
    schema["anyOf"] = [{"required": ["detector"]}, {"required": ["factory"]}]


class ModelRecipe(Strict):
    """A detector from plain arguments; `kdet list detectors` shows the names."""

    model_config = ConfigDict(json_schema_extra=_either)

    detector: str
    """retinanet, fcos, faster_rcnn, cascade_rcnn, ssdlite, atss, gfl, libreyolo, or hf: a model of transformers."""
    factory: str | None = None
    """In its place: `module:function` of your own, called with `classes` and `options`; needs --allow-code."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keyword arguments of the `factory`."""
    config: dict[str, Any] | None = None
    """hf with random weights: its `model_type`, and what is not its default. libreyolo: its `model` and `size`."""
    backbone: str | None = None
    """resnet10 … resnet152, resnext…, mobilenet_v2, mobilenet_v3_…; None = resnet50 (ssdlite: mobilenet_v3_large)."""
    weights: str | None = None
    """A weights file, or torchvision's weights by name; None = random. hf: a folder, or a name on the hub."""
    backbone_weights: str | None = None
    """The same for the backbone alone."""
    norm: Literal["batch", "frozen", "eval", "group"] | None = None
    """Normalisation of the backbone; eval: statistics fixed, scale and shift trained (mmdetection's norm_eval). None =
    batch from random weights, frozen as torchvision has it from others."""
    trainable_layers: Annotated[int, Field(ge=0, le=5)] | None = None
    """0 (backbone frozen, statistics too) … 5 (all trained); None = 5 from random weights, 3 from others."""
    width: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Channel multiplier of resnet10/18/34 and the MobileNets."""
    fpn_channels: Annotated[int, Field(gt=0, le=4096, multiple_of=8)] = 256
    """Channels of the neck."""
    head_norm: bool | None = None
    """GroupNorm in RetinaNet's head; None = where the neck is narrower than 256."""
    anchor_scale: Annotated[float, Field(ge=0.125, le=64)] = 1.0
    """Multiplies the anchor sizes, 1 = 32…512 px (ATSS and GFL: 64…1024 px)."""
    p6: Literal["p5", "c5"] = "p5"
    """What P6 of RetinaNet, FCOS, ATSS and GFL is made of: the pyramid's P5, or the backbone's last stage C5."""

    @model_validator(mode="before")
    @classmethod
    def _detector_or_factory(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("factory") is None:
            return given
        content = cast("dict[str, Any]", given)
        if content.get("detector", FACTORY) != FACTORY:
            raise InputError(f"factory: builds the detector; leave out `detector: {content['detector']}`")
        return {**content, "detector": FACTORY}

    @property
    def origin(self) -> str | None:
        """Where its weights come from; None = nowhere, they are random."""
        return self.weights or (self.factory and f"factory {self.factory}")


class StudentRecipe(ModelRecipe):
    """The detector to train."""

    inherit: Inherit | None = None
    """Start from the teacher's weights where names and shapes agree: neck; head = neck and head; all."""

    @property
    def has_pretrained_backbone(self) -> bool:
        """Whether its backbone starts from weights that were trained; a factory's is taken to."""
        return self.origin is not None or self.backbone_weights is not None or self.inherit == "all"


class TermRecipe(BaseModel):
    """One method; keys beside these are the method's own arguments (`kdet list methods`)."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    method: str
    """A name of `kdet list methods`."""
    name: str | None = None
    """What the log calls it; None = the method's name."""
    weight: float | Literal["auto", "published"] | None = None
    """auto, the default = measured against the task's gradient; published = the paper's number; or a number."""
    ratio: Annotated[float, Field(gt=0)] = RATIO
    """Gradient of all `weight: auto` terms together as a multiple of the task losses' gradient."""
    strides: list[int] | None = None
    """Only the neck's levels of these strides, such as [8, 16, 32]; None = all paired ones; pkd: the finest four."""
    schedule: dict[Literal["warmup", "decay", "stop"], float] = {}
    """Fractions of the run: rise to full weight until, fall from, off from."""
    placebo: bool = False
    """This term is meant to do nothing."""

    @model_validator(mode="before")
    @classmethod
    def _is_called_ratio(cls, given: Any) -> Any:
        if isinstance(given, dict) and "share" in given:
            raise InputError("share: is called `ratio` now, for it may be above 1; rename the key")
        return cast("Any", given)


class _AnyTeacher(Strict):
    """How a teacher fits the student, wherever it comes from."""

    class_map: dict[str, str] = Field(default_factory=dict[str, str])
    """Teacher's class name → student's, where they differ."""
    image_size: ImageSize | None = None
    """Input size of the teacher alone, as of `data`; it sees the same crops. None = the student's."""
    resize: bool = True
    """Whether levels of other strides are paired, by resizing the teacher's maps."""
    pair_levels: Literal["auto", "stride", "place"] = "auto"
    """What makes two levels of the necks a pair: stride, the size of their cells in pixels, or place, from fine to
    coarse. auto = place for a teacher of the student's kind that sees larger images, where each level has a width of
    its own, as in YOLOX; else stride."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the weights of its terms; for several teachers."""
    cache: Path | None = None
    """A folder that keeps what it said about each image, so that it is not asked again; see the guide."""
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
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keyword arguments of the library's constructor, such as depth; out_indices chooses the levels."""

    @property
    def origin(self) -> str | None:
        """Where its weights come from; None = nowhere, they are random."""
        return f"{self.library}'s {self.foundation}" if self.weights == "pretrained" else self.weights


def _kind_of_teacher(value: Any) -> str:
    """Which of them is meant, so that a mistake in it is explained by its own keys."""
    kinds = {"foundation": FoundationTeacher, "detector": BuiltTeacher, "factory": BuiltTeacher}
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
