"""A student that starts from its teacher's weights, tensor by tensor, where names and shapes agree."""

from dataclasses import dataclass
from typing import Literal

import torch

from kdet.detectors.parts import Part, part_of
from kdet.detectors.plain.backbones import freeze_norms
from kdet.detectors.weights import is_class_layer
from kdet.errors import InputError
from kdet.types import Detector

Inherit = Literal["neck", "head", "all"]
"""neck; head: neck and head, as the papers' inheriting strategy does; all: the backbone too."""

_TAKEN_BY: dict[Inherit, tuple[Part, ...]] = {
    "neck": ("neck",),
    "head": ("neck", "head"),
    "all": ("backbone", "neck", "head"),
}


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """What was taken of the parts that were asked for, and what was not."""

    taken: tuple[str, ...]
    left: dict[str, str]
    """Name of a student's tensor → why it keeps its own start."""

    def describe(self) -> list[str]:
        """Counts by part, then every tensor that was not taken, those of one reason together."""
        counts = {part: sum(part_of(name) == part for name in self.taken) for part in ("backbone", "neck", "head")}
        shown = ", ".join(f"{count} of the {part}" for part, count in counts.items() if count)
        lines = [f"inherited from the teacher: {len(self.taken)} tensors ({shown})"]
        for reason in dict.fromkeys(self.left.values()):
            names = [name for name, why in self.left.items() if why == reason]
            lines.append(f"not inherited, {reason}: {len(names)} tensors ({_shortened(names)})")
        return lines


def inherit(student: Detector, teacher: Detector, what: Inherit) -> Inherited:
    """Copy the teacher's weights into the student's model, in place.

    Args:
        student: the detector that is to start from the teacher.
        teacher: the detector to copy from; not changed.
        what: which parts.

    Raises:
        InputError: not a single tensor of these parts fits.
    """
    ours, theirs = student.model.state_dict(), teacher.model.state_dict()
    same_classes = student.class_names == teacher.class_names
    taken: list[str] = []
    left: dict[str, str] = {}
    for name in (n for n in ours if part_of(n) in _TAKEN_BY[what] and not n.endswith("num_batches_tracked")):
        if name not in theirs:
            left[name] = "no such name in the teacher"
        elif theirs[name].shape != ours[name].shape:
            left[name] = "other shapes"
        elif is_class_layer(name) and not same_classes:
            left[name] = "the class lists differ in names or order"
        else:
            taken.append(name)
    if not taken:
        reasons = ", ".join(sorted(set(left.values()))) or "the student has none"
        raise InputError(
            f"student: inherit: {what}: nothing of the teacher's fits the student ({reasons}); "
            "give both the same detector and `fpn_channels`, or leave `inherit` out"
        )
    with torch.no_grad():
        for name in taken:
            ours[name].copy_(theirs[name])
    return Inherited(taken=tuple(taken), left=left)


def inherit_frozen_norms(student: Detector, teacher: Detector) -> bool:
    """Freeze the norms of a student that has its teacher's backbone, if the teacher was trained under frozen ones.

    Batch statistics would make another function of such weights.

    Returns:
        Whether they were frozen, in place and in what rebuilds the student.
    """
    ours, theirs = student.build_arguments or {}, teacher.build_arguments or {}
    if ours.get("norm") != "batch" or theirs.get("norm") not in ("frozen", "eval"):
        return False
    freeze_norms(student.model.get_submodule("backbone.body"))
    student.build_arguments = {**ours, "norm": "frozen"}
    return True


def _shortened(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
