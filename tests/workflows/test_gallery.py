"""The demo's pictures: which images are shown, and in which order."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdet.data import Source, open_source
from kdet.data.shapes.generator import Shapes
from kdet.evaluate import ImagePredictions, write_predictions
from kdet.report import Mark
from kdet.workflows import gallery as module


def finds(image_id: int, scores: list[float]) -> ImagePredictions:
    """Boxes far from each other, so that each is found or not."""
    left = np.arange(len(scores), dtype=np.float32) * 20
    boxes = np.stack([left, left, left + 10, left + 10], axis=1)
    labels = np.zeros(len(scores), np.int64)
    return ImagePredictions(image_id=image_id, boxes_xyxy=boxes, scores=np.float32(scores), labels=labels)


def test_the_images_on_which_the_runs_differ_most_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("shapes", split="val", shapes=Shapes(images=4, val_images=4, image_size=64))
    ids = [int(image_id) for image_id in source.index.image_ids]
    same = {image_id: [0.9] for image_id in ids}
    runs = {"alone": same, "distilled": same | {ids[2]: [0.9, 0.8, 0.7], ids[3]: [0.5]}}
    for name, found in runs.items():
        (tmp_path / name).mkdir()
        predictions = [finds(image_id, scores) for image_id, scores in found.items()]
        write_predictions(tmp_path / name / "predictions.json", predictions, source.index.classes)
    drawn: list[int] = []
    truth = module._truth

    def watched(own: Source, row: int) -> list[Mark]:
        drawn.append(row)
        return truth(own, row)

    monkeypatch.setattr(module, "_truth", watched)
    pictures = module.gallery(source, {name: tmp_path / name for name in runs}, tmp_path / "out", count=3)
    assert drawn == [2, 3, 0]
    assert [picture.name for picture in pictures] == ["00.png", "01.png", "02.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width > 3 * 64
