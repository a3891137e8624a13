"""The recipe's `student:`, `teacher:` and `distill:`: detectors, and what is learned from whom."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from kdet.detectors import FACTORY, Inherit
from kdet.distill import RATIO
from kdet.errors import InputError
from kdet.train.recipe.data import ImageSize, Strict


def _either(schema: dict[str, Any]) -> None:
    """Tell editors that `detector:` is required, or `factory:`."""
    schema["required"].remove("detector")
    schema["anyOf"] = [{"required": ["detector"]}, {"required": ["factory"]}]


class ModelRecipe(Strict):
    """Detector from plain arguments; `kdet list detectors` shows the names."""

    model_config = ConfigDict(json_schema_extra=_either)

    detector: str
    """Name of the detector: retinanet, fcos, faster_rcnn, cascade_rcnn, ssdlite, atss, gfl, libreyolo, or hf for a
    model of transformers."""
    factory: str | None = None
    """Function of your own that builds the detector, as `module:function`, in place of `detector`; it is called with
    `classes` and `options`, and needs --allow-code."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keyword arguments of the `factory`."""
    config: dict[str, Any] | None = None
    """Architecture of hf with random weights (its `model_type`, and all that is not its default) or of libreyolo (its
    `model` and `size`)."""
    backbone: str | None = None
    """Name of the backbone: torchvision's resnet10 … resnet152, resnext…, mobilenet_v2, mobilenet_v3_…, convnext_…,
    efficientnet_…, regnet_…, shufflenet_v2_…, or timm/NAME; None = resnet50 (ssdlite: mobilenet_v3_large)."""
    weights: str | None = None
    """Initial weights: a file, or torchvision's by name; hf: a folder, or a name on the hub; None = random."""
    backbone_weights: str | None = None
    """Initial weights of the backbone alone, as in `weights`; for timm/NAME also `pretrained`, timm's own; None =
    random."""
    norm: Literal["batch", "frozen", "eval", "group"] | None = None
    """Normalisation layers of the backbone: batch, frozen, eval (statistics fixed, scale and shift trained:
    mmdetection's norm_eval) or group; None = batch with random weights, else as torchvision has it, mostly frozen."""
    trainable_layers: Annotated[int, Field(ge=0, le=5)] | None = None
    """Number of the backbone's layers that are trained, counted from the deep end: 0 (none, statistics frozen too) … 5
    (all); None = 5 with random weights, 3 with others."""
    width: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Factor on the channels of resnet10/18/34 and the MobileNets."""
    fpn_channels: Annotated[int, Field(gt=0, le=4096, multiple_of=8)] = 256
    """Number of channels of the neck."""
    head_norm: bool | None = None
    """Whether RetinaNet's head has GroupNorm; None = where the neck has fewer than 256 channels."""
    anchor_scale: Annotated[float, Field(ge=0.125, le=64)] = 1.0
    """Factor on the anchor sizes; 1 = 32…512 px (ATSS and GFL: 64…1024 px)."""
    p6: Literal["p5", "c5"] = "p5"
    """Map from which RetinaNet, FCOS, ATSS and GFL make P6: the pyramid's P5, or the backbone's last stage C5."""

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
        """Origin of its weights; None = they are random."""
        return self.weights or (self.factory and f"factory {self.factory}")


class StudentRecipe(ModelRecipe):
    """Detector to train."""

    inherit: Inherit | None = None
    """Part that starts from the teacher's weights where names and shapes agree: neck, head (neck and head) or all; None
    = no part."""

    @property
    def has_pretrained_backbone(self) -> bool:
        """Whether its backbone starts from weights that were trained; a factory's is taken to."""
        return self.origin is not None or self.backbone_weights is not None or self.inherit == "all"


class TermRecipe(BaseModel):
    """One distillation method; keys beside these are the method's own arguments (`kdet list methods`)."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    method: str
    """Name of the method, one of `kdet list methods`."""
    name: str | None = None
    """Name in the log; None = the method's."""
    weight: float | Literal["auto", "published"] | None = None
    """Factor on the loss: a number; auto = measured against the task's gradient; published = the paper's number; None =
    auto."""
    ratio: Annotated[float, Field(gt=0)] = RATIO
    """Gradient of all `weight: auto` terms together at the student's neck as a multiple of the task losses'."""
    strides: list[int] | None = None
    """Strides of the neck's levels that are compared, in pixels per cell, such as [8, 16, 32]; None = all paired levels
    (pkd: the finest four)."""
    schedule: dict[Literal["warmup", "decay", "stop"], float] = {}
    """Course of the weight in fractions of the run: `warmup` = end of its rise, `decay` = start of its fall, `stop` =
    end of the term."""
    placebo: bool = False
    """Whether the term is meant to do nothing, so that it may pass the proof that distillation acts."""

    @model_validator(mode="before")
    @classmethod
    def _is_called_ratio(cls, given: Any) -> Any:
        if isinstance(given, dict) and "share" in given:
            raise InputError("share: is called `ratio` now, for it may be above 1; rename the key")
        return cast("Any", given)


class _AnyTeacher(Strict):
    """Settings of a teacher, wherever it comes from."""

    class_map: dict[str, str] = Field(default_factory=dict[str, str])
    """Student's class name for each of the teacher's that is called otherwise."""
    image_size: ImageSize | None = None
    """Input size of the teacher alone, as in `data`, in pixels; it sees the same crops. None = the student's."""
    resize: bool = True
    """Whether levels of other strides are paired, by resizing the teacher's maps."""
    pair_levels: Literal["auto", "stride", "place"] = "auto"
    """Property that makes two levels of the necks a pair: stride, the size of their cells in pixels, or place, from
    fine to coarse; auto = place for a teacher of the student's kind that sees larger images, where each level has a
    width of its own, as in YOLOX, else stride."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the weights of its terms, for several teachers."""
    cache: Path | None = None
    """Folder that keeps its answer for each image, so that it is not asked again; None = no cache."""
    distill: list[TermRecipe] | None = None
    """Methods by which the student learns from this teacher; None = the recipe's `distill:`."""
    name: str | None = None
    """Prefix of the names of its terms; None = t1, t2, … where there are several teachers."""


class RunTeacher(_AnyTeacher):
    """Teacher that kdet trained."""

    run: Path
    """Run folder of the teacher, or its student.safetensors."""


class BuiltTeacher(ModelRecipe, _AnyTeacher):
    """Teacher from weights."""

    classes: list[str] | None = None
    """Class names of the teacher; None = those in the weights, else those of the data."""


class FoundationTeacher(_AnyTeacher):
    """Pretrained backbone that teaches features alone."""

    foundation: str
    """Name of the backbone, such as vit_small_patch14_dinov2, convnext_tiny; for transformers also a folder or a
    kind."""
    library: Literal["timm", "transformers"] = "timm"
    """Library of the model."""
    weights: str | None = None
    """Initial weights: pretrained for the library's own, or a file; None = random."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keyword arguments of the library's constructor, such as depth; out_indices chooses the levels."""

    @property
    def origin(self) -> str | None:
        """Origin of its weights; None = they are random."""
        return f"{self.library}'s {self.foundation}" if self.weights == "pretrained" else self.weights


def _kind_of_teacher(value: Any) -> str:
    """Tell which of them is meant, so that a mistake in it is explained by its own keys."""
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
