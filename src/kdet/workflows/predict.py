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
from kdet.train.state.run_folder import write_json
from kdet.train.state.run_log import Progress
from kdet.types import Batch, Detector, Sample, Target
from kdet.workflows.models import open_to_run
from kdet.workflows.predicted_files import WRITERS, Predicted, write_as


def predict_images(
    model: Path, files: Sequence[Path], out: Path, *, score: float, in_fp32: bool = True, kinds: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Draw the boxes of a model on images.

    Args:
        model: a run folder or its weights file.
        files: images of any size.
        out: folder for one PNG an image and predictions.json.
        score: leave out boxes below it, 0…1.
        kinds: other tools for which the boxes are written, too; see `predicted_files.WRITERS`.
        in_fp32: whether the toolkit of an exported file computes in float32; else as it chooses on this processor.

    Returns:
        One record an image: `image`, `picture`, and `detections` with class, score and box_xyxy in the image's pixels.

    Raises:
        InputError: an unreadable image or model.
    """
    if unknown := [kind for kind in kinds if kind not in WRITERS]:
        raise InputError(f"--as {unknown[0]}: expected one of {', '.join(WRITERS)}")
    detector, device = open_to_run(model, in_fp32=in_fp32)
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress("predicting", len(files))
    records: list[dict[str, Any]] = []
    seen: list[Predicted] = []
    try:
        for number, file in enumerate(files):
            pixels = read_image(file)
            batch = _batch_of(pixels, detector, number)
            found = predict_loader(detector, [batch], detector.class_names, device=device)[0]
            picture = out / f"{number:04d}-{file.stem}.png"
            own = _kept(file, pixels, found, score)
            seen.append(own)
            records.append(_record(own, pixels, detector.class_names, picture))
            progress.advance(1)
        for kind in kinds:
            write_as(kind, seen, detector.class_names, out)
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


def _kept(file: Path, pixels: Tensor, found: ImagePredictions, score: float) -> Predicted:
    """What is shown of an image."""
    kept = found.scores >= score
    columns = (found.boxes_xyxy[kept], found.labels[kept], found.scores[kept])
    boxes, labels, scores = (column.tolist() for column in columns)
    size_hw = int(pixels.shape[1]), int(pixels.shape[2])
    return Predicted(file=file, size_hw=size_hw, boxes_xyxy=boxes, labels=labels, scores=scores)


def _record(own: Predicted, pixels: Tensor, names: Sequence[str], picture: Path) -> dict[str, Any]:
    """Save the picture, and say what is on it."""
    marks = marks_of(own.boxes_xyxy, own.labels, names, own.scores)
    draw_marks(Image.fromarray(pixels.permute(1, 2, 0).numpy()), marks).save(picture)
    detections = [
        {"class": names[label], "score": round(value, 4), "box_xyxy": [round(v, 1) for v in box]}
        for box, label, value in zip(own.boxes_xyxy, own.labels, own.scores, strict=True)
    ]
    return {"image": str(own.file), "picture": str(picture), "detections": detections}
