"""What several runs see on the same validation images, side by side."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from PIL import Image

from kdet.data import Source
from kdet.evaluate import SHOWN_SCORE, ImagePredictions, difference, read_predictions
from kdet.report import Mark, draw_marks, marks_of, side_by_side
from kdet.train.state.run_folder import PREDICTIONS


def gallery(source: Source, runs: Mapping[str, Path], out: Path, *, count: int = 6) -> list[Path]:
    """Draw one picture an image: the truth, then what each run found, in the order given.

    The images are those on which the runs differ most, by rule and not by choice; the most different one is first.

    Args:
        source: the validation images.
        runs: caption → run folder with its predictions.
        out: folder for the pictures.
        count: number of images.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {caption: _by_image(folder) for caption, folder in runs.items()}
    pictures: list[Path] = []
    for place, i in enumerate(_most_different(source, list(found.values()))[:count]):
        image = Image.fromarray(source.read(i).permute(1, 2, 0).numpy())
        image_id = int(source.index.image_ids[i])
        columns = [("Truth", draw_marks(image, _truth(source, i)))]
        for caption, by_image in found.items():
            columns.append((caption, draw_marks(image, _marks(by_image.get(image_id), source.index.classes))))
        picture = out / f"{place:02d}.png"
        side_by_side(columns).save(picture)
        pictures.append(picture)
    return pictures


def _most_different(source: Source, found: Sequence[Mapping[int, ImagePredictions]]) -> list[int]:
    """Rows of the images, by the sum of the differences between every two runs; a stable order where there are none."""
    ids = [int(image_id) for image_id in source.index.image_ids]
    apart = [sum(difference(a[i], b[i]) for a, b in combinations(found, 2) if i in a and i in b) for i in ids]
    return sorted(range(len(ids)), key=lambda row: -apart[row])


def _by_image(folder: Path) -> dict[int, ImagePredictions]:
    predictions, _ = read_predictions(folder / PREDICTIONS)
    return {found.image_id: found for found in predictions}


def _truth(source: Source, i: int) -> list[Mark]:
    objects = source.index.objects(i)
    return marks_of(objects.boxes_xyxy.tolist(), objects.labels.tolist(), source.index.classes)


def _marks(found: ImagePredictions | None, classes: tuple[str, ...]) -> list[Mark]:
    if found is None:
        return []
    columns = (found.boxes_xyxy.tolist(), found.labels.tolist(), classes, found.scores.tolist())
    return marks_of(*columns, min_score=SHOWN_SCORE)
