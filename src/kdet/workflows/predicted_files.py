"""Predictions in the files that other tools read."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """One image with what was found on it."""

    file: Path
    size_hw: tuple[int, int]
    boxes_xyxy: Sequence[Sequence[float]]
    """Pixels of the image."""
    labels: Sequence[int]
    scores: Sequence[float]


def write_as(kind: str, images: Sequence[Predicted], names: Sequence[str], folder: Path) -> Path:
    """Write predictions for another tool.

    Args:
        kind: a key of WRITERS.
        images: in order.
        names: of the labels.
        folder: where it is written.

    Returns:
        The file or folder.

    Raises:
        InputError: an unknown kind, or images whose names clash.
    """
    if kind not in WRITERS:
        raise InputError(f"--as {kind}: expected one of {', '.join(WRITERS)}")
    return WRITERS[kind](images, names, folder)


def _coco(images: Sequence[Predicted], names: Sequence[str], folder: Path) -> Path:
    """COCO's result list; images are numbered from 1 in their order, categories from 1 in the model's."""
    results = [
        {
            "image_id": number,
            "file_name": image.file.name,
            "category_id": label + 1,
            "category_name": names[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for number, image in enumerate(images, start=1)
        for (x1, y1, x2, y2), label, score in zip(image.boxes_xyxy, image.labels, image.scores, strict=True)
    ]
    return _json(folder / "predictions.coco.json", results)


def _yolo(images: Sequence[Predicted], names: Sequence[str], folder: Path) -> Path:
    """A text file an image, a row an object: class, centre and size relative to the image, score; and classes.txt."""
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    stems: set[str] = set()
    for image in images:
        if image.file.stem in stems:
            raise InputError(f"{image.file}: two images are called {image.file.stem!r}; YOLO needs names that differ")
        stems.add(image.file.stem)
        height, width = image.size_hw
        rows = [
            f"{label} {(x1 + x2) / 2 / width:.6g} {(y1 + y2) / 2 / height:.6g} {(x2 - x1) / width:.6g} "
            f"{(y2 - y1) / height:.6g} {score:.6g}\n"
            for (x1, y1, x2, y2), label, score in zip(image.boxes_xyxy, image.labels, image.scores, strict=True)
        ]
        (labels / f"{image.file.stem}.txt").write_text("".join(rows), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return labels


def _labelstudio(images: Sequence[Predicted], names: Sequence[str], folder: Path) -> Path:
    """Tasks with predictions for Label Studio's import; its tags are called `label` and `image`."""
    tasks = [
        {
            "data": {"image": str(image.file)},
            "predictions": [{"model_version": "kdet", "result": _regions(image, names)}],
        }
        for image in images
    ]
    return _json(folder / "predictions.labelstudio.json", tasks)


def _regions(image: Predicted, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Sides in per cent of the image, as Label Studio counts."""
    height, width = image.size_hw
    return [
        {
            "id": f"{image.file.stem}-{number}",
            "from_name": "label",
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": score,
            "value": {
                "x": 100 * x1 / width,
                "y": 100 * y1 / height,
                "width": 100 * (x2 - x1) / width,
                "height": 100 * (y2 - y1) / height,
                "rotation": 0,
                "rectanglelabels": [names[label]],
            },
        }
        for number, ((x1, y1, x2, y2), label, score) in enumerate(
            zip(image.boxes_xyxy, image.labels, image.scores, strict=True)
        )
    ]


def _json(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return file


WRITERS: dict[str, Callable[[Sequence[Predicted], Sequence[str], Path], Path]] = {
    "coco": _coco,
    "yolo": _yolo,
    "labelstudio": _labelstudio,
}
