"""Classes are matched by name, never by position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from kdet.errors import InputError

BACKGROUND = "__background__"
_GROUND = {BACKGROUND, "background", "_background_", "__ignore__"}
"""What tools call all that is no object."""
_UNUSED = {*_GROUND, "n/a"}


@dataclass(frozen=True)
class ClassPairs:
    """Columns of two class layers that mean the same thing, in the order of the first."""

    names: tuple[str, ...]
    """The shared classes, as the student calls them; may be empty."""
    student: tuple[int, ...]
    teacher: tuple[int, ...]
    num_columns: int
    """Number of columns of the student's class layer."""
    only_student: tuple[str, ...] = ()
    """Classes that the teacher does not know."""
    only_teacher: tuple[str, ...] = ()
    """Classes that the student does not have, as the teacher calls them."""

    @property
    def reordered(self) -> bool:
        """Whether the shared names stand in another order or at other columns."""
        return self.student != self.teacher

    def describe(self) -> list[str]:
        """The mapping as lines for the log; nothing where both lists are the same."""
        lines: list[str] = []
        if self.reordered:
            pairs = zip(self.names, self.student, self.teacher, strict=True)
            shown = ", ".join(f"{name}: {s} ← {t}" for name, s, t in pairs)
            lines.append(f"classes matched by name (student ← teacher column): {shown}")
        if self.only_student:
            lines.append(self.unknown())
        if self.only_teacher:
            lines.append(f"the student does not have the teacher's {', '.join(self.only_teacher)}")
        return lines

    def unknown(self) -> str:
        """What follows from the classes that the teacher does not know."""
        shown = ", ".join(self.only_student)
        return f"the teacher does not know {shown}: terms that look at single objects leave these out{self._near()}"

    def _near(self) -> str:
        """Names that may be one class in two spellings."""
        found = {name: get_close_matches(name, self.only_teacher, n=1) for name in self.only_student}
        alike = ", ".join(f"{near[0]}: {name}" for name, near in found.items() if near)
        return f"; if they are only spelt otherwise, set `class_map: {{{alike}}}`" if alike else ""


def is_background(name: str) -> bool:
    """Whether a class name stands for what is no object."""
    return name.strip().lower() in _GROUND


def real_classes(class_names: Sequence[str]) -> dict[str, int]:
    """Map names to columns for the entries that stand for objects; background and "N/A" entries are left out.

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
        InputError: the mapping names a class that is not there, or gives two of the teacher's classes one name.
    """
    renames = dict(mapping or {})
    student_columns, teacher_columns = real_classes(student), real_classes(teacher)
    if unknown := sorted(set(renames) - set(teacher_columns)):
        raise InputError(
            f"the class mapping renames {unknown}, which the teacher does not have; it has {list(teacher_columns)}"
        )
    if unknown := sorted(set(renames.values()) - set(student_columns)):
        raise InputError(
            f"the class mapping leads to {unknown}, which the student does not have; it has {list(student_columns)}"
        )
    if not teacher_columns:  # it gives features alone
        return ClassPairs((), (), (), num_columns=len(student))
    renamed: dict[str, int] = {}
    for name, column in teacher_columns.items():
        ours = renames.get(name, name)
        if ours in renamed:
            raise InputError(f"two of the teacher's classes are called {ours!r} after the class mapping; map one alone")
        renamed[ours] = column
    names = tuple(name for name in student_columns if name in renamed)
    return ClassPairs(
        names,
        tuple(student_columns[name] for name in names),
        tuple(renamed[name] for name in names),
        num_columns=len(student),
        only_student=tuple(name for name in student_columns if name not in renamed),
        only_teacher=tuple(name for name in teacher_columns if renames.get(name, name) not in student_columns),
    )
