"""Which level of the student belongs to which level of the teacher, and which class to which."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kdet.errors import InputError
from kdet.ops.classes import ClassPairs, match_classes
from kdet.types import Level

PairLevels = Literal["stride", "place"]
"""By which the levels of two necks are paired: what a cell measures in pixels, or their order from fine to coarse."""
_OCTAVE = 1.0
"""A teacher's level this far away, as a power of two of the strides, still shows objects of the same size."""


@dataclass(frozen=True, kw_only=True)
class LevelPair:
    """Positions of two levels in the two lists of levels."""

    stride: int
    """The student's, in pixels of its input."""
    teacher_stride: float
    """The teacher's, in pixels of the student's input; where it is another, its map is resized."""
    student: int
    teacher: int
    student_channels: int
    teacher_channels: int

    def describe(self) -> str:
        """One line for the log."""
        line = f"stride {self.stride:>4}: student {self.student_channels} channels ← teacher {self.teacher_channels}"
        return line + " channels" + ("" if self.exact else f" at stride {self.teacher_stride:g}, resized")

    @property
    def exact(self) -> bool:
        """Whether the two maps have the same cells."""
        return self.stride == self.teacher_stride


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """What belongs together, settled once before training."""

    levels: tuple[LevelPair, ...]
    classes: ClassPairs
    left_out: tuple[str, ...]
    """Levels without a partner, for the log."""

    def only(self, strides: Sequence[int] | None, finest: int | None = None) -> "Pairing":
        """The same with the levels of these strides alone; without them the `finest`, so many; without either all.

        Raises:
            InputError: a stride that is not paired, or no level at all.
        """
        paired = [level.stride for level in self.levels]
        if strides is None:
            if finest is not None and finest < 1:
                raise InputError(f"finest: expected at least one level, got {finest}")
            strides = sorted(paired)[:finest]
        if not strides or not set(strides) <= set(paired):
            raise InputError(f"strides: expected some of the paired strides {paired}, got {list(strides)}")
        return replace(self, levels=tuple(level for level in self.levels if level.stride in strides))

    def describe(self) -> list[str]:
        """The pairing as lines for the log."""
        lines = [level.describe() for level in self.levels]
        if self.left_out:
            lines.append(f"without a partner: {', '.join(self.left_out)}")
        return lines + self.classes.describe()


def pair(
    student_levels: Sequence[Level],
    teacher_levels: Sequence[Level],
    student_classes: Sequence[str],
    teacher_classes: Sequence[str],
    class_map: Mapping[str, str] | None = None,
    *,
    resize: bool = True,
    teacher_scale: float = 1.0,
    by: PairLevels = "stride",
) -> Pairing:
    """Pair levels by stride and classes by name.

    A student's level whose stride the teacher lacks takes the teacher's nearest one, resized, up to a factor of two
    away; if all are farther, only the nearest pair is taken.

    Args:
        student_levels: levels of the student's neck.
        teacher_levels: levels of the teacher's neck.
        student_classes: names by column.
        teacher_classes: names by column.
        class_map: teacher's class name → student's.
        resize: whether levels of other strides may be paired.
        teacher_scale: how many times larger the teacher's input image is. A teacher that sees twice the pixels has its
            stride 16 where the student has stride 8.

    Raises:
        InputError: no common stride where none may be resized, or a wrong class map.
    """
    strides = [level.stride / teacher_scale for level in teacher_levels]
    nearest = (
        _by_place(student_levels, teacher_levels)
        if by == "place"
        else [_nearest(level.stride, strides) for level in student_levels]
    )
    apart = [abs(math.log2(strides[t] / level.stride)) for level, t in zip(student_levels, nearest, strict=True)]
    reach = (max(_OCTAVE, min(apart)) if by == "stride" else math.inf) if resize else 0.0
    pairs = tuple(
        LevelPair(
            stride=level.stride,
            teacher_stride=strides[t],
            student=s,
            teacher=t,
            student_channels=level.channels,
            teacher_channels=teacher_levels[t].channels,
        )
        for s, (level, t) in enumerate(zip(student_levels, nearest, strict=True))
        if apart[s] <= reach
    )
    if not pairs:
        ours = [level.stride for level in student_levels]
        raise InputError(
            f"no level in common: the student has strides {ours}, the teacher {[_whole(s) for s in strides]}; "
            "set `teacher: {resize: true}` to compare levels of other strides"
        )
    used = {pair.teacher for pair in pairs}
    lonely = [f"student stride {level.stride}" for s, level in enumerate(student_levels) if apart[s] > reach]
    lonely += [f"teacher stride {_whole(stride)}" for t, stride in enumerate(strides) if t not in used]
    return Pairing(
        levels=pairs,
        classes=match_classes(student_classes, teacher_classes, class_map),
        left_out=tuple(lonely),
    )


def _by_place(student_levels: Sequence[Level], teacher_levels: Sequence[Level]) -> list[int]:
    if [level.stride for level in student_levels] != [level.stride for level in teacher_levels]:
        raise InputError("place needs the same strides")
    return list(range(len(student_levels)))


def _nearest(stride: int, strides: Sequence[float]) -> int:
    """Index of the nearest stride, by ratio; of two equally near ones the finer."""
    return min(range(len(strides)), key=lambda i: (round(abs(math.log2(strides[i] / stride)), 6), strides[i]))


def _whole(stride: float) -> int | float:
    return int(stride) if stride == int(stride) else round(stride, 2)
