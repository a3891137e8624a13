"""kdet predict."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.evaluate import Model
from kdet.cli.options import AllowCode, AsJson, Out, Precision, RuntimePrecision, noted, show


def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR…", help="Images, or folders of images.")],
    out: Out = Path("predictions"),
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Leave out boxes below this score.")] = 0.3,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--as", metavar="TOOL", help="Also write the boxes for coco, yolo or labelstudio; repeatable."),
    ] = None,
    runtime_precision: RuntimePrecision = Precision.FP32,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Draw a model's boxes on images; also write them as JSON.

    Example: kdet predict runs/distilled photos/ --out found
    """
    from kdet.cli.sources import image_files
    from kdet.workflows.predict import predict_images

    in_fp32 = runtime_precision is Precision.FP32
    records = predict_images(model, image_files(images, noted), out, score=score, in_fp32=in_fp32, kinds=kinds or ())
    text = "\n".join(f"{r['image']}: {len(r['detections'])} objects → {r['picture']}" for r in records)
    show({"images": records, "out": str(out)}, as_json, lambda: text)
