"""Pages and pictures, from run folders alone."""

from kdet.report.card import card
from kdet.report.collect import EvalRecord, RunSummary, StepRecord, read_run
from kdet.report.comparison import comparison_page
from kdet.report.page import demo_page, run_page, write_page
from kdet.report.pictures import Mark, draw_marks, marks_of, png_bytes, side_by_side

__all__ = [
    "EvalRecord",
    "Mark",
    "RunSummary",
    "StepRecord",
    "card",
    "comparison_page",
    "demo_page",
    "draw_marks",
    "marks_of",
    "png_bytes",
    "read_run",
    "run_page",
    "side_by_side",
    "write_page",
]
