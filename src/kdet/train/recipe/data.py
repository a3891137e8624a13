"""The recipe's `data:`: which images, and what happens to them."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from kdet.data.formats.model_labels import is_labelled_by_a_model
from kdet.data.formats.validate import OnBadBox
from kdet.data.formats.voc.reader import FirstPixel
from kdet.data.resize import image_size_of
from kdet.data.shapes.generator import Shapes
from kdet.data.transforms import Augmentation
from kdet.types import Canvas


def _image_size(value: Any) -> Any:
    """Whole numbers are checked here; pydantic refuses everything else in its own words."""
    if isinstance(value, list | tuple) and all(type(side) is int for side in value):
        return image_size_of(list(value))
    return image_size_of(value) if type(value) is int else value


ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_image_size)]
"""Long side in pixels, or [short side, limit of the long side]."""


class Strict(BaseModel):
    """Unknown keys are errors; the docstring under a field is its description."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


class Unlabelled(Strict):
    """Images without labels; terms on features learn from them, everything else from the teacher's confident boxes."""

    images: str
    """Folder of images, or one that `kdet label` wrote, with its boxes; `rest` = the training images left out by
    `labels`."""
    per_batch: Annotated[int, Field(ge=1)] = 8
    """Number of these images added to each batch of each process."""
    score: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = 0.5
    """Least score of a teacher's box that is taken for an object; auto = for each class the score of the best F1
    on labelled training images, if there are some that the teacher was not trained on."""

    @property
    def has_boxes(self) -> bool:
        """Whether the images come with a model's boxes, so that no teacher is asked."""
        return self.images != "rest" and is_labelled_by_a_model(Path(self.images))


class _AnyData(Strict):
    """Settings of every kind of data."""

    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images that is used, 0…1; always the same ones, a quarter being part of the half."""
    canvas: Literal["auto"] | Canvas = "auto"
    """Way in which images of any shape become one input; auto = as in the student's own library; pad: aspect kept, a
    batch padded to a multiple of 32 of its largest image; letterbox: aspect kept, on a square; stretch: squeezed into
    the square, whose `image_size` is one number."""
    hold_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that is held out for validation, 0…1, for choices that must not see `val`; None =
    validation on `val`."""
    unlabelled: Unlabelled | None = None
    """Images beside the labelled ones, for a student that has a teacher; None = none."""
    soft_targets: bool = False
    """Whether boxes that a model gave count by their scores: a box with score 0.7 is on its image in 70 % of all
    epochs, drawn anew in each; else such boxes are as sure as all others."""


def _listed(value: Any) -> Any:
    """One path as it stands, several as a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


Paths = Annotated[Path | Annotated[list[Path], Field(min_length=2)], BeforeValidator(_listed)]
SPLIT = Path("split")
"""Word in place of validation data for a part of the training images."""


class FileData(_AnyData):
    """Images in files."""

    format: Literal["coco", "voc", "yolo", "csv"]
    """Format of the files."""
    train: Paths
    """Training data: for COCO an annotation file or folder, for VOC a folder or a list in its ImageSets/, for YOLO a
    data.yaml, for CSV a file or folder; or a list of these, read as one, classes matched by name."""
    val: Paths | None = None
    """Validation data, in the same form as `train`; may be the same folder when its format names the splits. `split` =
    a part of the training images, see `split_off`."""
    split_off: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training images that `val: split` holds back, 0…1; images that look alike stay together."""
    split_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed that chooses the images of `val: split`."""
    first_pixel: FirstPixel = "auto"
    """Number of the first pixel in VOC data, 0 or 1; auto = 0 where a box begins at 0 or CVAT wrote them, else 1."""
    images: Path | None = None
    """Folder of the images; None = the format's usual one."""
    prepare: str | None = None
    """Command that makes these files, for whoever does not have them."""
    image_size: ImageSize = (800, 1333)
    """Input size in pixels: the long side, or [short side, limit of the long side]; for a square canvas its side."""
    augment: Augmentation = Augmentation()
    """Random changes of the training images."""
    on_bad_box: OnBadBox = "fix"
    """Treatment of bad boxes; fix: clip up to 1 px, drop boxes without area, refuse all else; clip: clip however far
    outside; drop: drop them all; error: refuse them all."""

    @model_validator(mode="after")
    def _val_is_said(self) -> "FileData":
        if self.val is None and self.hold_out is None:
            raise ValueError(
                "val: missing; name the validation data, or take a part of the training images: `val: split`"
            )
        return self

    def paths(self, split: Literal["train", "val"]) -> list[Path]:
        """List the paths of a split; none for validation on training images."""
        given = self.train if split == "train" else self.val
        if given is None:
            return []
        return given if isinstance(given, list) else [given]


_GENERATOR_FIELDS: Any = {f.name: (f.type, f.default) for f in fields(Shapes)}
_GeneratorKeys: Any = create_model("_GeneratorKeys", __base__=_AnyData, **_GENERATOR_FIELDS)
"""The generator's parameters as recipe keys; they are written down once, in kdet.data.shapes.generator."""


class ShapesData(_GeneratorKeys):  # pyright: ignore[reportUntypedBaseClass]
    """Generated images: the keys of `kdet.data.shapes.generator.Shapes`."""

    format: Literal["shapes"]
    """Kind of the data."""
    augment: Augmentation = Augmentation()
    """Random changes of the training images."""

    @model_validator(mode="after")
    def _in_range(self) -> "ShapesData":
        self.shapes()
        return self

    def shapes(self) -> Shapes:
        """The generator's own parameters."""
        return Shapes(**self.model_dump(include=set(_GENERATOR_FIELDS)))
