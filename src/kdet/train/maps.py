"""What a finished run leaves for its page to draw: a few validation images, and what both models make of them inside.

The pictures are plain: boxes are in the predictions files, and the page chooses the colours.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdet.data import DetectionDataset, collate
from kdet.distill import Distiller
from kdet.distill.feature_maps import LevelMaps, level_maps
from kdet.evaluate import ImagePredictions, difference, read_predictions
from kdet.ops.modes import evaluating
from kdet.train.state.run_folder import MAPS, PREDICTIONS, TEACHER_PREDICTIONS, write_json
from kdet.types import Detector

_PICTURES = 4
_INSIDE = 2
"""Number of these pictures whose feature maps are kept."""
_LONGEST_SIDE_PX = 640


def write_maps(
    folder: Path, data: DetectionDataset, student: Detector, distiller: Distiller, device: torch.device
) -> None:
    """Write maps/maps.json and its pictures, of the images on which student and teacher differ most.

    Without a teacher: on which the student and the truth do.

    Args:
        folder: the run's, with its predictions of these images.
        data: the validation images, unaugmented.
        student: the detector that was evaluated last.
        distiller: with the teacher and the adapters, if it was distilled.
        device: where both models are.
    """
    out = folder / MAPS
    out.mkdir(exist_ok=True)
    found = _by_image(folder / PREDICTIONS)
    taught = distiller.teacher is not None and (folder / TEACHER_PREDICTIONS).exists()
    others = _by_image(folder / TEACHER_PREDICTIONS) if taught else _truth(data)
    index = data.source.index
    apart = [difference(found[int(i)], others[int(i)]) for i in index.image_ids]
    chosen = sorted(range(len(apart)), key=lambda i: -apart[i])[:_PICTURES]
    pictures = [_picture(data, i, out) | {"difference": round(apart[i], 4)} for i in chosen]
    if distiller.teacher is not None:
        with evaluating(student.model):
            for i, picture in zip(chosen[:_INSIDE], pictures, strict=False):
                levels = level_maps(
                    distiller, student, collate([data[i]], teacher_scale=data.pipeline.teacher_scale).to(device)
                )
                picture["levels"] = [_level(level, int(index.image_ids[i]), out) for level in levels]
    write_json(out / "maps.json", {"compared_with": "teacher" if taught else "truth", "pictures": pictures})


def _by_image(path: Path) -> Mapping[int, ImagePredictions]:
    return {image.image_id: image for image in read_predictions(path)[0]}


def _truth(data: DetectionDataset) -> Mapping[int, ImagePredictions]:
    """The objects as a detector would name them that is sure of each."""
    ids = data.source.index.image_ids.tolist()
    targets = {image_id: data.target(i) for i, image_id in enumerate(ids)}
    return {
        image_id: ImagePredictions(
            image_id=image_id,
            boxes_xyxy=target["boxes"].numpy(),
            scores=np.ones(len(target["labels"]), np.float32),
            labels=target["labels"].numpy(),
        )
        for image_id, target in targets.items()
    }


def _picture(data: DetectionDataset, i: int, out: Path) -> dict[str, Any]:
    """Save image i, and say what is on it."""
    index, target = data.source.index, data.target(i)
    image = Image.fromarray(data.source.read(i).permute(1, 2, 0).numpy())
    about: dict[str, Any] = {
        "image_id": int(index.image_ids[i]),
        "name": index.file_names[i],
        "file": f"{int(index.image_ids[i])}.jpg",
        "width": image.width,
        "height": image.height,
        "truth": [
            {"class": index.classes[label], "box_xyxy": [round(side, 2) for side in box]}
            for label, box in zip(target["labels"].tolist(), target["boxes"].tolist(), strict=True)
        ],
        "levels": [],
    }
    image.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    image.save(out / about["file"], quality=92, subsampling=0)
    return about


def _level(level: LevelMaps, image_id: int, out: Path) -> dict[str, Any]:
    """Save the maps of one level, a pixel a cell, as grey from the lowest to the highest value."""
    alike = level.similarity
    start = f"{image_id}-stride{level.stride}"
    return {
        "stride": level.stride,
        "student": _activation(level.student, out / f"{start}-student.png"),
        "teacher": _activation(level.teacher, out / f"{start}-teacher.png"),
        "similarity": None if alike is None else _similarity(alike, out / f"{start}-similarity.png"),
    }


def _activation(values_HW: Tensor, path: Path) -> dict[str, Any]:
    low, high = float(values_HW.min()), float(values_HW.max())
    _save((values_HW - low) / max(high - low, 1e-12), path)
    return {"file": path.name, "low": low, "high": high}


def _similarity(values_HW: Tensor, path: Path) -> dict[str, Any]:
    """Map a similarity to 0…1, so that levels compare; what runs against the teacher is 0 too."""
    _save(values_HW.clamp(0, 1), path)
    return {"file": path.name, "low": 0.0, "high": 1.0, "mean": float(values_HW.mean())}


def _save(shares_HW: Tensor, path: Path) -> None:
    Image.fromarray((shares_HW * 255).round().to(torch.uint8).numpy()).save(path)
