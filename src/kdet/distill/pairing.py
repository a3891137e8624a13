"""Which level of the student belongs to which level of the teacher, and which class to which."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kdet.errors import InputError
from kdet.ops.classes import ClassPairs, match_classes
from kdet.types import Level

PairBy = Literal["stride", "place"]
"""What makes two levels a pair: that a cell measures as many pixels, or that they stand at one place of the neck."""
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
        if self.exact:
            return line + " channels"
        how = "resized" if self.teacher_stride < self.stride else "resized: a coarser map, enlarged"
        return f"{line} channels at stride {self.teacher_stride:g}, {how}"

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
    by: PairBy = "stride"

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
        if self.by == "place" and not all(level.exact for level in self.levels):
            lines.insert(
                0, "levels are paired by their place in the neck: the teacher has the same ones, of finer cells"
            )
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
    by: PairBy = "stride",
) -> Pairing:
    """Pair levels by stride or place, and classes by name.

    By stride, a student's level whose stride the teacher lacks takes the teacher's nearest one, resized, up to a factor
    of two away; if all are farther, only the nearest pair is taken. By place, the first level of the one belongs to the
    first of the other, and so on, whatever the teacher's input size does to the pixels of its cells.

    Args:
        student_levels: levels of the student's neck.
        teacher_levels: levels of the teacher's neck.
        student_classes: names by column.
        teacher_classes: names by column.
        class_map: teacher's class name → student's.
        resize: whether levels of other strides may be paired.
        by: stride, or place where both necks have the same strides.
        teacher_scale: how many times larger the teacher's input image is. A teacher that sees twice the pixels has its
            stride 16 where the student has stride 8.

    Raises:
        InputError: no common stride where none may be resized, place with other strides, or a wrong class map.
    """
    strides = [level.stride / teacher_scale for level in teacher_levels]
    if by == "place" and not same_places(student_levels, teacher_levels):
        ours, theirs = ([level.stride for level in side] for side in (student_levels, teacher_levels))
        raise InputError(
            f"pair_levels: place needs the same strides in both, the student has {ours}, the teacher {theirs}; "
            "use `pair_levels: stride`"
        )
    nearest = [i if by == "place" else _nearest(level.stride, strides) for i, level in enumerate(student_levels)]
    apart = [abs(math.log2(strides[t] / level.stride)) for level, t in zip(student_levels, nearest, strict=True)]
    reach = 0.0 if not resize else math.inf if by == "place" else max(_OCTAVE, min(apart))
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
        by=by,
    )


def same_places(student_levels: Sequence[Level], teacher_levels: Sequence[Level]) -> bool:
    """Whether both necks have the same strides, each in pixels of its own input."""
    return [level.stride for level in student_levels] == [level.stride for level in teacher_levels]


def _nearest(stride: int, strides: Sequence[float]) -> int:
    """Index of the nearest stride, by ratio; of two equally near ones the finer."""
    return min(range(len(strides)), key=lambda i: (round(abs(math.log2(strides[i] / stride)), 6), strides[i]))


def _whole(stride: float) -> int | float:
    return int(stride) if stride == int(stride) else round(stride, 2)
