"""Classes are matched by name, never by position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdet.errors import InputError

BACKGROUND = "__background__"
_UNUSED = {BACKGROUND, "background", "n/a"}


@dataclass(frozen=True)
class ClassPairs:
    """Columns of two class layers that mean the same thing, in the order of the first."""

    names: tuple[str, ...]
    student: tuple[int, ...]
    teacher: tuple[int, ...]

    @property
    def reordered(self) -> bool:
        """Whether the shared names stand in another order or at other columns."""
        return self.student != self.teacher

    def describe(self) -> str:
        """The mapping in one line, for the log."""
        pairs = zip(self.names, self.student, self.teacher, strict=True)
        return ", ".join(f"{name}: {s} ← {t}" for name, s, t in pairs)


def real_classes(class_names: Sequence[str]) -> dict[str, int]:
    """Name → column of the entries that stand for objects; background and "N/A" entries are left out.

    Raises:
        InputError: a name stands twice.
    """
    columns: dict[str, int] = {}
    for column, name in enumerate(class_names):
        if name.strip().lower() in _UNUSED:
            continue
        if name in columns:
            raise InputError(
                f"class name {name!r} stands twice in the list (columns {columns[name]}, {column}); names must differ"
            )
        columns[name] = column
    return columns


def match_classes(
    student: Sequence[str], teacher: Sequence[str], mapping: Mapping[str, str] | None = None
) -> ClassPairs:
    """Pair the columns of two class lists by name; `mapping` renames teacher classes to student classes.

    Raises:
        InputError: the two lists do not hold the same names.
    """
    renames = dict(mapping or {})
    student_columns, teacher_columns = real_classes(student), real_classes(teacher)
    if unknown := sorted(set(renames) - set(teacher_columns)):
        raise InputError(
            f"the class mapping renames {unknown}, which the teacher does not have; it has {list(teacher_columns)}"
        )
    renamed = {renames.get(name, name): column for name, column in teacher_columns.items()}
    missing, extra = sorted(set(student_columns) - set(renamed)), sorted(set(renamed) - set(student_columns))
    if missing or extra:
        raise InputError(
            f"teacher and student have different classes: only the student has {missing}, "
            f"only the teacher has {extra}; "
            "train the teacher on the student's classes, or map names with `teacher: {class_map: {theirs: yours}}`"
        )
    names = tuple(student_columns)
    return ClassPairs(names, tuple(student_columns[n] for n in names), tuple(renamed[n] for n in names))
