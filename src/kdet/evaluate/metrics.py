"""What an evaluation comes to, and its two JSON forms: metrics.json and curves.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, float | None]
"""A metric's name → 0…1, or None where the ground truth holds nothing to measure it on."""

AP_NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
_DIGITS = 4
"""Decimals in the curves of single classes, which are many and only drawn."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Precision over recall, and AP over the IoU asked for; means over the classes that have objects."""

    recall: list[float]
    """The 101 points of COCO."""
    precision: Mapping[str, list[float] | None]
    """"50" and "75" (IoU in percent), "all" (mean over the ten) → precision at each recall; None without any object."""
    iou: list[float]
    """The ten IoU thresholds of COCO."""
    ap_per_iou: list[float | None]
    per_class: Mapping[str, Mapping[str, list[float]]]
    """The same as `precision` for each class that has objects."""

    def as_json(self) -> dict[str, Any]:
        """The content of curves.json."""
        precision = {threshold: _list(values) for threshold, values in self.precision.items()}
        per_class = {
            name: {threshold: [round(value, _DIGITS) for value in values] for threshold, values in own.items()}
            for name, own in self.per_class.items()
        }
        whole = {"recall": self.recall, "precision": precision, "iou": self.iou, "AP_per_iou": self.ap_per_iou}
        return whole | {"per_class": per_class}


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Box metrics in 0…1."""

    overall: Values
    """AP, AP50, AP75, AP_S, AP_M, AP_L; of VOC data also AP50_VOC2007 and AP50_VOC2010, see `voc_ap`."""
    per_class: Mapping[str, Values]
    """The same of each class of the data, in the data's order."""
    curves: Curves

    @property
    def ap(self) -> float | None:
        """AP over IoU 0.50…0.95; None if the ground truth holds no object."""
        return self.overall["AP"]

    def as_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return {**self.overall, "per_class": {name: dict(values) for name, values in self.per_class.items()}}


def _list(values: list[float] | None) -> list[float] | None:
    return None if values is None else list(values)
