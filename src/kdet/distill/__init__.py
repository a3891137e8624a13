"""The core: a frozen teacher, terms, and the module that adds them up. Knows detectors only by their Protocol."""

from kdet.distill.distiller import Distiller
from kdet.distill.least_squares import fit_adapters
from kdet.distill.methods import METHODS, Method
from kdet.distill.paired_teacher import PairedTeacher, TeacherConfig
from kdet.distill.preflight.diagnosis import Reading, first_broken, readings
from kdet.distill.preflight.proof import prove_it_acts
from kdet.distill.teacher import FrozenTeacher
from kdet.distill.terms import RATIO, Term
from kdet.distill.weighting.schedule import Schedule

__all__ = [
    "METHODS",
    "RATIO",
    "Distiller",
    "FrozenTeacher",
    "Method",
    "PairedTeacher",
    "Reading",
    "Schedule",
    "TeacherConfig",
    "Term",
    "first_broken",
    "fit_adapters",
    "prove_it_acts",
    "readings",
]
