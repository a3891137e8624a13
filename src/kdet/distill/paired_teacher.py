"""A teacher with what is learned from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from kdet.distill.pairing import PairBy, Pairing, pair, same_places
from kdet.distill.teacher import FrozenTeacher
from kdet.distill.terms import Term
from kdet.errors import InputError
from kdet.types import Detector, Need


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """One teacher, its terms, and how it fits the student."""

    teacher: Detector | FrozenTeacher
    """Frozen by the distiller if it is not yet."""
    terms: Sequence[Term]
    """What `kdet.methods.…()` return, added up."""
    class_map: Mapping[str, str] = field(default_factory=dict[str, str])
    """Teacher's class name → student's, where they differ."""
    scale: float = 1.0
    """How many times larger the teacher's input image is."""
    resize: bool = True
    """Whether levels of other strides are paired, by resizing the teacher's maps."""
    pair_levels: Literal["auto"] | PairBy = "auto"
    """What makes two levels of the necks a pair. auto = place for a teacher of the student's kind that sees larger
    images, where each level has a width of its own, as in YOLOX: no map stands for its neighbour there. Else stride."""
    assumes_classes: bool = False
    """Whether the names of the teacher's columns are a guess, which the log and `kdet check` then say."""
    name: str = ""
    """Stands before the names of its terms; must differ where there are several teachers."""

    def named_terms(self) -> list[Term]:
        """The terms under the names that the log has for them."""
        return [term.renamed(f"{self.name}/{term.name}") if self.name else term for term in self.terms]


@dataclass(frozen=True, kw_only=True)
class PairedTeacher:
    """A teacher that has been paired with a student."""

    teacher: FrozenTeacher
    pairing: Pairing
    """Levels by stride: cells of equal size, whose predictions can be compared."""
    features: Pairing
    """The same for terms that read the neck's maps; levels perhaps by place."""
    terms: tuple[Term, ...]
    scale: float
    assumes_classes: bool

    @property
    def finds_objects(self) -> bool:
        """Whether the teacher detects anything that the student has a class for."""
        return self.teacher.detector.predicts and bool(self.pairing.classes.names)

    def pairing_of(self, term: Term) -> Pairing:
        """What the term compares."""
        return self.features if Need.FEATURES in term.view.student_needs else self.pairing

    def describe(self) -> list[str]:
        """Levels and classes as lines for the log."""
        lines = self.features.describe()
        if self.features != self.pairing and any(self.pairing_of(term) is self.pairing for term in self.terms):
            lines.append("terms on predictions compare levels of equal cells:")
            lines += [level.describe() for level in self.pairing.levels if level.exact]
        return lines

    @property
    def needs_larger_images(self) -> bool:
        """Whether its batches must bring images of another size."""
        return self.scale != 1


def _pair_by(student: Detector, teacher: Detector, config: TeacherConfig) -> PairBy:
    if config.pair_levels != "auto":
        return config.pair_levels
    alike = student.architecture == teacher.architecture and same_places(student.levels, teacher.levels)
    own_widths = len({level.channels for level in teacher.levels}) > 1
    return "place" if alike and own_widths and config.scale > 1 else "stride"


def fit_to(student: Detector, config: TeacherConfig) -> PairedTeacher:
    """Freeze the teacher, pair its levels and classes with the student's.

    Raises:
        InputError: no common level, or teacher and student are one module.
    """
    if config.teacher.model is student.model:
        raise InputError("student and teacher are the same module; give the teacher a copy of its own")
    for side, detector in (("student", student), ("teacher", config.teacher)):
        if not detector.levels:
            raise InputError(
                f"the {side} ({detector.family}) has no feature maps to compare; "
                "of an exported file name the run that it came from"
            )
    frozen = config.teacher if isinstance(config.teacher, FrozenTeacher) else FrozenTeacher(config.teacher)
    paired = partial(
        pair,
        student.levels,
        frozen.levels,
        student.class_names,
        frozen.class_names,
        config.class_map,
        resize=config.resize,
        teacher_scale=config.scale,
    )
    return PairedTeacher(
        teacher=frozen,
        pairing=paired(by="stride"),
        features=paired(by=_pair_by(student, frozen.detector, config)),
        terms=tuple(config.named_terms()),
        scale=config.scale,
        assumes_classes=config.assumes_classes,
    )
