"""A trained detector on a user's images: pictures with boxes, and JSON."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from kdet.data import Pipeline, collate, read_image
from kdet.errors import InputError
from kdet.evaluate import ImagePredictions, predict_loader
from kdet.report import draw_marks, marks_of
from kdet.study.models import open_to_run
from kdet.train.run_folder import write_json
from kdet.train.run_log import Progress
from kdet.types import Batch, Detector, Sample, Target


def predict_images(
    model: Path, files: Sequence[Path], out: Path, *, score: float, in_fp32: bool = True
) -> list[dict[str, Any]]:
    """Draw the boxes of a model on images.

    Args:
        model: a run folder or its weights file.
        files: images of any size.
        out: folder for one PNG an image and predictions.json.
        score: leave out boxes below it, 0…1.
        in_fp32: whether the toolkit of an exported file computes in float32; else as it chooses on this processor.

    Returns:
        One record an image: `image`, `picture`, and `detections` with class, score and box_xyxy in the image's pixels.

    Raises:
        InputError: an unreadable image or model.
    """
    detector, device = open_to_run(model, in_fp32=in_fp32)
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress("predicting", len(files))
    records: list[dict[str, Any]] = []
    try:
        for number, file in enumerate(files):
            pixels = read_image(file)
            batch = _batch_of(pixels, detector, number)
            found = predict_loader(detector, [batch], detector.class_names, device=device)[0]
            picture = out / f"{number:04d}-{file.stem}.png"
            records.append(_record(file, pixels, found, detector.class_names, picture, score))
            progress.advance(1)
    except InputError:
        if made:
            shutil.rmtree(out)  # wrong input leaves nothing half-written
        raise
    finally:
        progress.close()
    write_json(out / "predictions.json", records)
    return records


def _batch_of(pixels: Tensor, detector: Detector, number: int) -> Batch:
    """One image at the network's size."""
    nothing = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    pipeline = Pipeline(detector.image_size, canvas=detector.canvas)
    image, target = pipeline(pixels, nothing)
    size_hw, canvas_hw = (int(pixels.shape[1]), int(pixels.shape[2])), pipeline.canvas_hw
    sample = Sample(image=image, target=target, image_id=number, original_size_hw=size_hw, canvas_hw=canvas_hw)
    return collate([sample])


def _record(
    file: Path, pixels: Tensor, found: ImagePredictions, names: Sequence[str], picture: Path, score: float
) -> dict[str, Any]:
    """Save the picture, and say what is on it."""
    kept = found.scores >= score
    columns = (found.boxes_xyxy[kept], found.labels[kept], found.scores[kept])
    boxes, labels, scores = (column.tolist() for column in columns)
    marks = marks_of(boxes, labels, names, scores)
    draw_marks(Image.fromarray(pixels.permute(1, 2, 0).numpy()), marks).save(picture)
    detections = [
        {"class": names[label], "score": round(value, 4), "box_xyxy": [round(v, 1) for v in box]}
        for box, label, value in zip(boxes, labels, scores, strict=True)
    ]
    return {"image": str(file), "picture": str(picture), "detections": detections}
