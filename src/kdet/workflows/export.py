"""kdet export: the student alone as a file, kept only if it finds on real images what the model finds."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdet.data import (
    DetectionDataset,
    Pipeline,
    Source,
    collate,
    evaluation_batches,
    make_loader,
    share_of,
)
from kdet.errors import InputError, WorkError
from kdet.evaluate import evaluate
from kdet.export import (
    TARGETS,
    About,
    ExportedDetector,
    Parity,
    Target,
    about_export,
    compare,
    graph_of,
    is_exported,
    open_exported,
    quantise,
)
from kdet.files import exists, is_folder
from kdet.ops.canvas import canvas_hw, padded_hw, resized_hw
from kdet.report import card, write_page
from kdet.train import open_data, read_recipe
from kdet.train.state.run_folder import RECIPE, environment, write_json
from kdet.types import Canvas, Detector, ImageSize, SizeHW
from kdet.workflows.compare.run import RESULT
from kdet.workflows.models import open_model
from kdet.workflows.speed import as_json, measure

Say = Callable[[str], None]

_BATCH = 8
_MOST_DROP = {"fp32": 0.002, "int8": 0.01}
"""AP that a file may lose by default. float32 on the same pixels loses nothing; the file's fixed input may."""

_OF_THE_INPUT = (
    "; on the same pixels file and model agree, so it is lost to the input's fixed size, where the model pads as "
    "little as each batch needs: --size HxW gives it another"
)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What file is wanted."""

    to: str
    size_hw: SizeHW | None = None
    """Size of the input; None = the model's square, else the smallest that holds every validation image as it is."""
    batch: int | None = None
    """Images at a time; None = any number where the target can, else one."""
    normalises: bool = True
    """Whether mean and standard deviation are part of it."""
    selects: bool = True
    """Whether top-k and NMS are part of it, where the target can."""
    int8: bool = False
    max_drop: float | None = None
    """AP that it may lose; None = 0.002, or 0.01 in eight bits."""
    images: int = 200
    """Validation images on which it is checked."""
    calibration: int = 64
    """Images of the training data from which the ranges of eight bits come."""
    seconds: float = 2.0
    """Seconds for timing the model, and as many for the file."""
    license: str | None = None
    """License of the weights, for the card."""


def export(model: Path, out: Path, wish: Wish, *, val: Source | None, train: Source | None, say: Say) -> dict[str, Any]:
    """Write the file, and beside it what was measured (`.json`) and a card (`.md`).

    Args:
        model: a run folder or a weights file that kdet wrote.
        out: folder; a file of this name must not be there yet.
        wish: what is wanted.
        val: where it is checked; None = the run's own validation data.
        train: where eight bits are calibrated; None = the run's own training data.
        say: what the user should know, a line at a time.

    Returns:
        The content of the `.json`, with the folder.

    Raises:
        InputError: wrong input, a toolkit that is missing, or a detector that cannot be exported.
        WorkError: the file differs from the model, or loses more AP than it may; nothing is kept.
    """
    target = TARGETS[_known(wish)]
    target.require()
    detector = _trained(model)
    val, train = _data(model, val, train, needs_train=wish.int8, say=say)
    about = about_export(
        detector,
        size_hw=wish.size_hw or canvas_for(val.index.sizes_hw, detector.image_size, detector.canvas),
        batch=wish.batch or (None if target.any_batch else 1),
        normalises=wish.normalises,
        selects=wish.selects and target.selects,
    )
    if wish.size_hw is None:
        about = replace(about, image_size=detector.image_size)
    if wish.selects and not target.selects:
        say(f"{target.name} has no NMS: the file gives candidates, and kdet selects among them when it runs it")
    name = f"student-int8{target.suffix}" if wish.int8 else f"student{target.suffix}"
    _require_new(out, name)
    sample = share_of(val, min(1.0, wish.images / len(val.index)))
    with tempfile.TemporaryDirectory(dir=out, prefix=".unchecked-") as folder:
        exported, parity = _checked(detector, about, target, Path(folder), sample, say)
        if wish.int8:
            exported = _in_eight_bits(exported, train, wish.calibration, Path(folder) / name, say)
        most = _MOST_DROP[exported.about.precision] if wish.max_drop is None else wish.max_drop
        ap = _ap(detector, exported, sample, most, say)
        result: dict[str, Any] = {
            "file": name,
            "target": target.name,
            "bytes": sum(file.stat().st_size for file in Path(folder).iterdir()),
            "about": asdict(exported.about),
            "parity": {**asdict(parity), "precision": "fp32"},
            "AP": {**ap, "images": len(sample.index), "max_drop": most, "precision": exported.precision},
            "speed": _speed(model, exported, detector, wish.seconds),
            "license": wish.license,
            "packages": environment(0)["packages"],
            "own_precision": _own_precision(target, exported, say),
        }
        for file in Path(folder).iterdir():
            file.replace(out / file.name)
    checked = out / f"{name}.json"
    write_json(checked, result)
    write_page(out / f"{name}.md", card(checked, model if is_folder(model) else None, _comparison(model)))
    return {**result, "out": str(out)}


def canvas_for(sizes_hw: NDArray[np.int32], image_size: ImageSize, canvas: Canvas) -> SizeHW:
    """Return a model's square, else the smallest input for images of these sizes (N×2), padded as it pads them."""
    if (square_hw := canvas_hw(image_size, canvas)) is not None:
        return square_hw
    sizes = [resized_hw((h, w), image_size) for h, w in np.unique(sizes_hw, axis=0).tolist()]
    return padded_hw((max(h for h, _ in sizes), max(w for _, w in sizes)))


def _known(wish: Wish) -> str:
    if wish.to not in TARGETS:
        raise InputError(f"--to {wish.to}: expected one of {', '.join(TARGETS)}")
    if wish.int8 and wish.to != "onnx":
        raise InputError(f"--int8: ONNX Runtime's quantiser writes ONNX; got --to {wish.to}")
    if min(wish.images, wish.calibration) < 1 or (wish.batch is not None and wish.batch < 1):
        raise InputError("--check-images, --calibration-images and --batch-size: expected at least 1")
    if wish.batch and wish.batch > 1 and not TARGETS[wish.to].any_batch:
        raise InputError(f"--batch-size {wish.batch}: {wish.to} files of kdet take one image at a time")
    return wish.to


def _trained(model: Path) -> Detector:
    if is_exported(model):
        raise InputError(f"{model}: is an exported file already; name the run that it came from")
    detector = open_model(model)
    if not detector.predicts:
        raise InputError(f"{model}: {detector.family} gives features alone, so there is nothing to export")
    return detector


def _data(
    model: Path, val: Source | None, train: Source | None, *, needs_train: bool, say: Say
) -> tuple[Source, Source]:
    """Open the data on which the file is checked, and those on which it is calibrated."""
    if val is not None and (train is not None or not needs_train):
        return val, train or val
    if not is_folder(model):
        raise InputError(
            f"{model}: a weights file does not say on which images its export is to be checked; add --data"
        )
    recipe = read_recipe(model / RECIPE)
    splits = open_data(recipe)
    for note in splits.notes:
        say(note)
    return val or splits.val, train or splits.train


def _require_new(out: Path, name: str) -> None:
    if exists(out / name):
        raise InputError(f"{out / name}: is there already; name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); name another folder with --out") from None


def _batches(source: Source, detector: Detector) -> Any:
    dataset = DetectionDataset(source, Pipeline(detector.image_size, canvas=detector.canvas))
    return make_loader(dataset, evaluation_batches(len(dataset), batch_size=_BATCH))


def _checked(
    detector: Detector, about: About, target: Target, folder: Path, sample: Source, say: Say
) -> tuple[ExportedDetector, Parity]:
    """The file in float32, and how far it is from the model.

    Raises:
        InputError: it cannot be written, not even for one image at a time.
        WorkError: too far.
    """
    graph, about = graph_of(detector, about)
    say(f"writing {target.name}, input {about.size_hw[0]}×{about.size_hw[1]}")
    path = folder / f"student{target.suffix}"
    try:
        target.write(graph, about, path)
    except InputError as problem:
        if about.batch is not None:
            raise
        say(f"{problem}; one image at a time instead")
        target.write(*graph_of(detector, replace(about, batch=1)), path)
    exported = open_exported(path)
    parity = compare(detector, exported, _batches(sample, exported))
    say(f"model and file: {parity}")
    if not parity.good:
        raise WorkError(
            f"the {target.name} file does not find what the model finds ({parity}); it was not kept: choose another "
            "--to, or "
            "leave the selection to the caller with --no-postprocess"
        )
    return exported, parity


def _own_precision(target: Target, exported: ExportedDetector, say: Say) -> str:
    """What the toolkit would compute in by itself, said where it is not what was measured."""
    if exported.precision != "fp32":
        return exported.precision
    own = target.own_precision()
    if own != exported.precision:
        say(
            f"measured in {exported.precision}; left to itself {target.name} computes in {own} on this processor: "
            "kdet evaluate and kdet speed measure that with --runtime-precision default"
        )
    return own


def _speed(model: Path, exported: ExportedDetector, detector: Detector, seconds: float) -> dict[str, Any]:
    """Model and file in turns, both on the processor, under the names that anybody may see."""
    paths = (model, exported.path)
    timed = as_json(measure(paths, image_size=detector.image_size, seconds=seconds, memory=False, device="cpu"))
    for row, path in zip(timed["models"], paths, strict=True):
        row["model"] = path.resolve().name
    return timed


def _in_eight_bits(exported: ExportedDetector, train: Source, count: int, path: Path, say: Say) -> ExportedDetector:
    """The file in eight bits, in the place of that in float32."""
    images = share_of(train, min(1.0, count / len(train.index)))
    say(f"eight bits: ranges from {len(images.index)} images")

    def inputs() -> Iterator[Tensor]:
        dataset = DetectionDataset(images, Pipeline(exported.image_size, canvas=exported.canvas))
        for i in range(len(dataset)):
            yield exported.normalised(exported.inputs(collate([dataset[(0, i)]])))

    quantise(exported.path, path, inputs(), exported.about)
    exported.path.unlink()
    return open_exported(path)


def _ap(detector: Detector, exported: ExportedDetector, sample: Source, most: float, say: Say) -> dict[str, Any]:
    """AP of both on the same images.

    Raises:
        WorkError: the file loses more than it may.
    """
    ours, theirs = (
        evaluate(one, _batches(sample, one), sample.index, device="cpu").metrics.as_json()["AP"]
        for one in (detector, exported)
    )
    drop = ours - theirs
    say(f"AP on {len(sample.index)} images: model {ours:.4f}, file {theirs:.4f}")
    if drop > most:
        raise WorkError(
            f"the file loses {drop:.4f} AP ({ours:.4f} → {theirs:.4f}) where {most:g} is allowed; it was not kept. "
            "Allow more with --max-drop"
            + (", or calibrate on more images" if exported.about.precision == "int8" else _OF_THE_INPUT)
        )
    return {"model": ours, "file": theirs, "drop": drop}


def _comparison(model: Path) -> Path | None:
    """The result of `kdet compare` that a run is part of."""
    result = model.resolve().parents[1] / RESULT if len(model.resolve().parents) > 1 else model / RESULT
    return result if is_folder(model) and exists(result) else None
