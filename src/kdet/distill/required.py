"""Whether a pair of detectors can serve a term; said before training, with the way out."""

from collections.abc import Sequence

from kdet.distill.pairing import Pairing
from kdet.distill.terms import Term
from kdet.distill.views.base import Demanding
from kdet.errors import InputError
from kdet.types import Detector, Need


def require_served(term: Term, student: Detector, teacher: Detector, pairing: Pairing) -> None:
    """Refuse a term that reads what a side does not have, class scores where no class is shared, or other anchors.

    Raises:
        InputError: with both sides and the way out.
    """
    _require(term, term.view.student_needs, student, "student")
    _require(term, term.view.teacher_needs, teacher, "teacher")
    if term.reads_class_scores and not pairing.classes.names:
        raise InputError(_no_shared_class(term, pairing))
    if isinstance(term.view, Demanding) and (why := term.view.refusal(student, teacher, pairing)):
        raise InputError(f"{term.name} {why}")


def _no_shared_class(term: Term, pairing: Pairing) -> str:
    ours, theirs = (", ".join(names) for names in (pairing.classes.only_student, pairing.classes.only_teacher))
    return (
        f"{term.name} compares class scores, and teacher and student share no class: the student has {ours}; the "
        f"teacher has {theirs}. Map names with `teacher: {{class_map: {{theirs: yours}}}}`, or use structural or lp"
    )


def _require(term: Term, needs: frozenset[Need], detector: Detector, side: str) -> None:
    missing = sorted(needs - detector.provides)
    if side == "teacher":
        missing = [need for need in missing if need not in (Need.ASSIGNMENT, Need.LOSSES)]
    if not missing:
        return
    raise InputError(
        f"{term.name} reads {', '.join(missing)}, which the {side} ({detector.family}) does not have: "
        f"{_way_out(missing, detector)}"
    )


def _way_out(missing: Sequence[Need], detector: Detector) -> str:
    """What to use in place of a term that reads what a detector does not have."""
    features = "use structural or lp on its features"
    if Need.MEMORY in missing:
        return "its neck is no transformer's encoder; use fgd, which weighs features by the objects' boxes too"
    if Need.DECODER in missing and Need.QUERIES in detector.provides:
        return "its decoder is not asked another's queries here; use detrdistill, which matches answers"
    if {Need.QUERIES, Need.DECODER} & set(missing):
        return f"it predicts no set of boxes, as detectors of `detector: hf` do; {features}"
    if Need.QUERIES in detector.provides:
        return (
            f"it predicts a set of boxes, not scores of a grid or of regions; {features}, or detrdistill on its "
            "queries where teacher and student are both such detectors; its boxes teach through `data: unlabelled:`"
        )
    if {Need.CLASS_LOGITS, Need.BOXES, Need.ASSIGNMENT} & set(missing):
        return (
            f"a two-stage detector scores sampled regions, not a dense grid; {features}, or soft_labels on its regions"
        )
    return features
