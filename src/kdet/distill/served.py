"""Whether a pair of detectors can serve a term; said before training, with the way out."""

from kdet.distill.pairing import Pairing
from kdet.distill.terms import Term
from kdet.errors import InputError
from kdet.types import Detector, Need


def require_served(term: Term, student: Detector, teacher: Detector, pairing: Pairing) -> None:
    """Refuse a term that reads what a side does not have, or class scores where no class is shared.

    Raises:
        InputError: with both sides and the way out.
    """
    _require(term, term.view.student_needs, student, "student")
    _require(term, term.view.teacher_needs, teacher, "teacher")
    if term.reads_class_scores and not pairing.classes.names:
        raise InputError(_no_shared_class(term, pairing))


def _no_shared_class(term: Term, pairing: Pairing) -> str:
    ours, theirs = (", ".join(names) for names in (pairing.classes.only_student, pairing.classes.only_teacher))
    return (
        f"{term.name} compares class scores, and teacher and student share no class: the student has {ours}; the "
        f"teacher has {theirs}. Map names with `teacher: {{class_map: {{theirs: yours}}}}`, or use structural or lp"
    )


def _require(term: Term, needs: frozenset[Need], detector: Detector, side: str) -> None:
    missing = sorted(needs - detector.gives)
    if side == "teacher":
        missing = [need for need in missing if need not in (Need.ASSIGNMENT, Need.LOSSES)]
    if not missing:
        return
    dense = {Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT} & set(missing)
    way_out = (
        "a two-stage detector scores sampled regions, not a dense grid; "
        "use structural or lp on its features, or soft_labels on its regions"
        if dense
        else "use structural or lp on its features"
    )
    raise InputError(
        f"{term.name} reads {', '.join(missing)}, which the {side} ({detector.family}) does not have: {way_out}"
    )
