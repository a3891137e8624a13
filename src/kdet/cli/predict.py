"""kdet predict."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.evaluate import Model
from kdet.cli.options import AsJson, Out, show


def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR…", help="Images, or folders of images.")],
    out: Out = Path("predictions"),
    score: Annotated[float, typer.Option("--score", help="Leave out boxes below this score.")] = 0.3,
    as_json: AsJson = False,
) -> None:
    """Draw a model's boxes on images; also write them as JSON.

    Example: kdet predict runs/distilled photos/ --out found
    """
    import torch

    from kdet.cli.sources import image_files
    from kdet.data import Pipeline, collate, read_image
    from kdet.errors import InputError
    from kdet.evaluate import predict_loader
    from kdet.report import Drawing, draw_boxes
    from kdet.train import load_detector
    from kdet.train.run_log import Progress
    from kdet.types import Sample

    if not 0 <= score <= 1:
        raise InputError(f"--score {score}: expected 0…1")
    files = image_files(images)
    detector = load_detector(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    detector.model.to(device)
    resize = Pipeline(detector.image_size)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress("predicting", len(files))
    results: list[dict[str, object]] = []
    for number, file in enumerate(files):
        pixels = read_image(file)
        image, target = resize(pixels, nothing)  # pyright: ignore
        size = (int(pixels.shape[1]), int(pixels.shape[2]))
        batch = collate([Sample(image=image, target=target, image_id=number, original_size_hw=size)])
        found = predict_loader(detector, [batch], detector.class_names, device=device)[0]
        kept = found.scores >= score
        boxes, scores, labels = found.boxes_xyxy[kept], found.scores[kept], found.labels[kept]
        names = [detector.class_names[label] for label in labels]
        picture = draw_boxes(pixels, Drawing(boxes, names, scores))
        target_file = out / f"{number:04d}-{file.stem}.png"
        picture.save(target_file)
        results.append(
            {
                "image": str(file),
                "picture": str(target_file),
                "detections": [
                    {"class": name, "score": round(float(s), 4), "box_xyxy": [round(float(v), 1) for v in box]}
                    for name, s, box in zip(names, scores, boxes, strict=True)
                ],
            }
        )
        progress.advance(1)
    progress.close()
    (out / "predictions.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    counts = "\n".join(f"{r['image']}: {len(r['detections'])} objects → {r['picture']}" for r in results)  # pyright: ignore
    show({"images": results, "out": str(out)}, as_json, lambda: counts)
