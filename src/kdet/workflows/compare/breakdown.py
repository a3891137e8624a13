"""Where a gain came from: per class, per size, per IoU asked for, and per kind of error. Means over seeds."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from kdet.data import DetectionIndex
from kdet.errors import InputError
from kdet.evaluate import VOC_NAMES, ImagePredictions, error_types
from kdet.workflows.compare.gain import Finished

Table = dict[str, dict[str, float | None]]
"""Row → arm → value; None where the images hold nothing to measure it on."""
Arms = Mapping[str, Sequence[Finished]]

_SIZES = ("AP_S", "AP_M", "AP_L")


def breakdown(arms: Arms) -> dict[str, Table | None]:
    """Return each arm's AP in parts: `classes`, `sizes` and `ious`; and `voc`, VOC's own metrics, for VOC data."""
    first = next(iter(arms.values()))[0]
    voc = [name for name in VOC_NAMES if name in first.metrics]
    return {
        "voc": {name: _row(arms, _overall(name)) for name in voc} or None,
        "classes": {name: _row(arms, _class_ap(name)) for name in first.metrics["per_class"]},
        "sizes": {name: _row(arms, _overall(name)) for name in _SIZES},
        "ious": {f"{iou:.2f}": _row(arms, _iou_ap(place)) for place, iou in enumerate(first.curves["iou"])},
    }


def errors_of(
    truth: DetectionIndex, arms: Mapping[str, Sequence[Sequence[ImagePredictions]]]
) -> tuple[Table | None, str | None]:
    """Return what each kind of error costs each arm in AP50; or None and the reason why it is not known.

    Args:
        truth: the validation images.
        arms: predictions of each seed, by arm.
    """
    try:
        found = {name: [error_types(truth, predictions) for predictions in of_seeds] for name, of_seeds in arms.items()}
    except InputError as error:
        return None, str(error)
    kinds = next(iter(found.values()))[0]
    return {
        kind: {name: fmean(one[kind].cost for one in of_seeds) for name, of_seeds in found.items()} for kind in kinds
    }, None


def _row(arms: Arms, value: Callable[[Finished], Any]) -> dict[str, float | None]:
    values = {name: [value(run) for run in runs] for name, runs in arms.items()}
    return {name: None if None in of_seeds else fmean(of_seeds) for name, of_seeds in values.items()}


def _class_ap(name: str) -> Callable[[Finished], Any]:
    return lambda run: run.metrics["per_class"][name]["AP"]


def _overall(name: str) -> Callable[[Finished], Any]:
    return lambda run: run.metrics[name]


def _iou_ap(place: int) -> Callable[[Finished], Any]:
    return lambda run: run.curves["AP_per_iou"][place]
