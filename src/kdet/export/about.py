"""What an exported file says about itself: all that somebody needs to feed it and to read its answers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kdet.detectors.exportable import Exportable
from kdet.errors import InputError
from kdet.ops.canvas import padded_hw
from kdet.ops.selection import Selection
from kdet.types import Canvas, Detector, ImageSize, SizeHW

KEY = "kdet"
"""Name of the entry in a file's metadata."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Metadata of an exported detector."""

    family: str
    class_names: tuple[str, ...]
    """`class_names[label]` is what was found; columns that are never found keep their place."""
    size_hw: SizeHW
    """Height and width of the input, whose images lie at the top left."""
    image_size: ImageSize
    """Long side, or short side and its limit, that an image is resized to before it is laid there."""
    batch: int | None
    """Images at a time; None = any number."""
    mean: tuple[float, float, float]
    """Mean of red, green and blue in 0…1."""
    std: tuple[float, float, float]
    fill: tuple[float, float, float]
    """The colour of the rest of the input, before normalisation."""
    normalises: bool
    """Whether the file is given pixels in 0…1; if not, (pixels - mean) / std."""
    selects: bool
    """Whether it answers with detections N×D (boxes, scores, labels, -1 = empty) or with candidates (scores, boxes)."""
    selection: Selection
    counts: tuple[int, ...]
    """Candidates of each level."""
    precision: str = "fp32"
    canvas: Canvas = "pad"
    """How an image is resized: with `stretch` its aspect is not kept. Files that do not say have it kept."""

    def as_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None, path: Path) -> "About":
        """What a file says.

        Raises:
            InputError: it says nothing, or something else.
        """
        if text is None:
            raise InputError(f"{path}: was not written by `kdet export` (no metadata {KEY!r} in it)")
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{path}: its metadata are not those of an exported detector ({where}: {first['msg']})"
            ) from None


def about_export(
    detector: Detector, *, size_hw: SizeHW | None, batch: int | None, normalises: bool, selects: bool
) -> About:
    """Return the metadata of a detector's export; `counts` are filled in when its graph is made.

    Args:
        detector: with candidates.
        size_hw: of the input; None = a square that holds every image at the detector's own size. A letterbox may be
            given another shape, in which images keep their aspect all the same.
        batch: images at a time; None = any number.
        normalises: whether the file takes pixels in 0…1.
        selects: whether it gives detections.

    Raises:
        InputError: a detector that cannot be exported, a size that its strides do not divide, or another shape than the
            square into which images are to be squeezed.
    """
    if not isinstance(detector, Exportable):
        raise InputError(
            f"a {detector.family} cannot be exported: it was wrapped by taps, so kdet does not know its candidates; "
            "export the module with your own library"
        )
    image_size, canvas = detector.image_size, detector.canvas
    if size_hw is None:
        longest = image_size if isinstance(image_size, int) else image_size[1]
        size_hw = padded_hw((longest, longest))
    elif min(size_hw) < 1 or padded_hw(size_hw) != size_hw:
        raise InputError(f"size {size_hw[0]}x{size_hw[1]}: expected multiples of 32, the next is {padded_hw(size_hw)}")
    elif size_hw[0] == size_hw[1]:
        image_size = size_hw[0]
    elif canvas == "stretch":
        raise InputError(
            f"size {size_hw[0]}x{size_hw[1]}: the {detector.family} was trained on images squeezed into a square; give "
            f"one, such as {max(size_hw)}x{max(size_hw)}, or train it with data.canvas: pad"
        )
    else:
        image_size, canvas = (min(size_hw), max(size_hw)), "pad"
    mean, std, fill = *detector.pixels, detector.fill
    return About(
        family=detector.family,
        class_names=tuple(detector.class_names),
        size_hw=size_hw,
        image_size=image_size,
        batch=batch,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        fill=(fill[0], fill[1], fill[2]),
        normalises=normalises,
        selects=selects,
        selection=detector.selection,
        counts=(),
        canvas=canvas,
    )
