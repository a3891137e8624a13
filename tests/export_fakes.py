"""What the tests of exporting share: real pixels, a weights file, and files of a small model."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from fakes import tiny, tiny_recipe, write_yaml
from kdet.export import TARGETS, ExportedDetector, about_export, graph_of, open_exported
from kdet.train import fit, read_recipe
from kdet.train.state.run_folder import BEST, save_student
from kdet.types import Batch, Detector


def batches() -> Iterable[Batch]:
    """Five images in batches of three and two. Noise: where images are flat, random weights give equal scores."""
    generator = torch.Generator().manual_seed(5)
    for count, size_hw in ((3, (96, 96)), (2, (64, 96))):
        sizes = [size_hw] * count
        images = torch.rand(count, 3, *size_hw, generator=generator)
        yield Batch(images=images, sizes_hw=sizes, original_sizes_hw=sizes, image_ids=list(range(count)))


def saved(folder: Path, detector: Detector | None = None) -> Path:
    """A weights file as a run leaves it."""
    detector = detector or tiny()
    save_student(detector, detector.native_state(), folder / BEST)
    return folder / BEST


def run_that_finds(folder: Path) -> Path:
    """A run folder of a few steps, so large that hundreds of scores pass the threshold; AP stays at nothing."""
    content = tiny_recipe(train={"lr": 0.02})
    fit(read_recipe(write_yaml(folder / "finding.yaml", content)), folder / "finding")
    return folder / "finding"


def written(
    folder: Path, detector: Detector, to: str = "onnx", *, normalises: bool = True, selects: bool = True
) -> ExportedDetector:
    """A detector as a file, opened again."""
    target = TARGETS[to]
    require(to)
    about = about_export(
        detector,
        size_hw=None,
        batch=None if target.any_batch else 1,
        normalises=normalises,
        selects=selects and target.selects,
    )
    graph, about = graph_of(detector, about)
    path = folder / f"student{target.suffix}"
    target.write(graph, about, path)
    return open_exported(path)


def require(to: str) -> None:
    """Skip where a toolkit of its own is not there."""
    if missing := TARGETS[to].missing():
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'kdet[{TARGETS[to].extra}]'")
