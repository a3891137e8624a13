"""Which level of the student belongs to which level of the teacher, and which class to which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdet.errors import InputError
from kdet.ops.classes import ClassPairs, match_classes
from kdet.types import Level


@dataclass(frozen=True, kw_only=True)
class LevelPair:
    """Positions of one stride in the two lists of levels."""

    stride: int
    student: int
    teacher: int
    student_channels: int
    teacher_channels: int


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """What belongs together, settled once before training."""

    levels: tuple[LevelPair, ...]
    classes: ClassPairs
    left_out: tuple[str, ...]
    """Levels without a partner, for the log."""

    def only(self, strides: Sequence[int] | None) -> "Pairing":
        """The same with the levels of these strides alone; None = all.

        Raises:
            InputError: a stride that is not paired.
        """
        if strides is None:
            return self
        paired = [level.stride for level in self.levels]
        if not strides or not set(strides) <= set(paired):
            raise InputError(f"strides: expected some of the paired strides {paired}, got {list(strides)}")
        return replace(self, levels=tuple(level for level in self.levels if level.stride in strides))

    def describe(self) -> list[str]:
        """The pairing as lines for the log."""
        lines = [
            f"stride {p.stride:>4}: student {p.student_channels} channels ← teacher {p.teacher_channels} channels"
            for p in self.levels
        ]
        if self.left_out:
            lines.append(f"without a partner: {', '.join(self.left_out)}")
        if self.classes.reordered:
            lines.append(f"classes matched by name (student ← teacher column): {self.classes.describe()}")
        return lines


def pair(
    student_levels: Sequence[Level],
    teacher_levels: Sequence[Level],
    student_classes: Sequence[str],
    teacher_classes: Sequence[str],
    class_map: Mapping[str, str] | None = None,
) -> Pairing:
    """Pair levels by stride and classes by name.

    Raises:
        InputError: no common stride, or other class names.
    """
    by_stride = {level.stride: index for index, level in enumerate(teacher_levels)}
    pairs = tuple(
        LevelPair(
            stride=level.stride,
            student=index,
            teacher=by_stride[level.stride],
            student_channels=level.channels,
            teacher_channels=teacher_levels[by_stride[level.stride]].channels,
        )
        for index, level in enumerate(student_levels)
        if level.stride in by_stride
    )
    ours, theirs = [level.stride for level in student_levels], [level.stride for level in teacher_levels]
    if not pairs:
        raise InputError(f"no level in common: the student has strides {ours}, the teacher {theirs}")
    lonely = [f"student stride {s}" for s in ours if s not in theirs]
    lonely += [f"teacher stride {s}" for s in theirs if s not in ours]
    return Pairing(
        levels=pairs,
        classes=match_classes(student_classes, teacher_classes, class_map),
        left_out=tuple(lonely),
    )
