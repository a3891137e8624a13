"""kdet evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.data import FormatName, Images
from kdet.cli.options import (
    AllowCode,
    AsJson,
    BadBox,
    FirstPixelName,
    Precision,
    RuntimePrecision,
    metrics_table,
    noted,
    show,
)

Model = Annotated[
    Path, typer.Argument(metavar="RUN|FILE", help="A run folder, its student.safetensors, or an exported file.")
]


def evaluate(
    model: Model,
    data: Annotated[Path, typer.Option("--data", metavar="PATH", help="Annotation file, data.yaml or folder.")],
    format_name: FormatName = None,
    split: Annotated[str, typer.Option("--split", help="train or val, where the path holds both.")] = "val",
    images: Images = None,
    on_bad_box: BadBox = None,
    first_pixel: FirstPixelName = "auto",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images at a time; default: as the run itself, or 8.")
    ] = None,
    predictions: Annotated[Path | None, typer.Option("--predictions", help="Also write every detection here.")] = None,
    runtime_precision: RuntimePrecision = Precision.FP32,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """COCO metrics of a model on a data set, per class and size; classes are matched by name.

    Example: kdet evaluate runs/distilled --data ../shared/data/bccd/annotations_val.json
    """
    from kdet.cli.sources import first_pixel_of, open_path
    from kdet.data import DetectionDataset, Pipeline, evaluation_batches, make_loader
    from kdet.evaluate import evaluate as score
    from kdet.evaluate import write_predictions
    from kdet.train.state.run_log import Progress
    from kdet.workflows.models import images_at_a_time, open_to_run, precision_of

    detector, device = open_to_run(model, in_fp32=runtime_precision is Precision.FP32)
    source = open_path(data, format_name, split, images, on_bad_box, first_pixel_of(first_pixel))
    for note in source.index.notes:
        noted(note)
    dataset = DetectionDataset(source, Pipeline(detector.image_size, canvas=detector.canvas))
    loader = make_loader(dataset, evaluation_batches(len(dataset), batch_size=batch_size or images_at_a_time(model)))
    progress = Progress("evaluating", len(dataset))
    result = score(detector, loader, source.index, device=device, progress=progress.advance)
    progress.close()
    if predictions is not None:
        write_predictions(predictions, result.predictions, source.index.classes)
    metrics = result.metrics.as_json() | {"precision": precision_of(detector, device)}
    show(metrics, as_json, lambda: f"{metrics_table(metrics)}\ncomputed in {metrics['precision']} on the {device}")
