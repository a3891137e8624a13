"""The report of `kdet check` for a person: short sections, aligned, each marked ok, warning or failed."""

from collections.abc import Iterator, Sequence
from typing import Any

from kdet.workflows.check.report import Report

_MARGIN = "  "


def as_text(report: Report, *, strict: bool = False) -> str:
    """Return all sections and the conclusion as text."""
    sections = {
        "data": _data(report.data),
        "classes": _classes(report.classes),
        "levels": _levels(report.levels),
        "teacher": _teacher(report.teacher),
        **_further(report.more_teachers),
        "terms": _terms(report.terms),
        "step": _step(report.step),
        "memory": _memory(report.memory),
        "trial": _trial(report.trial),
    }
    lines: list[str] = []
    for name, content in sections.items():
        found = list(content)
        own = [problem for problem in report.problems if problem.check == name]
        if found or own:
            lines += [f"{name:<9}{_worst([problem.status for problem in own])}", *(_MARGIN + line for line in found)]
            lines += [f"{_MARGIN}{problem.status}: {problem.text}" for problem in own]
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join([*lines, _verdict(report, strict=strict)])


def _further(teachers: Sequence[dict[str, Any]]) -> dict[str, Iterator[str]]:
    """The same sections for the second teacher and those after it."""
    sections: dict[str, Iterator[str]] = {}
    for number, found in enumerate(teachers, start=2):
        sections |= {
            f"classes {number}": _classes(found["classes"]),
            f"levels {number}": _levels(found["levels"]),
            f"teacher {number}": _teacher(found["teacher"]),
        }
    return sections


def _worst(statuses: Sequence[str]) -> str:
    return next((status for status in ("failed", "warning") if status in statuses), "ok")


def _verdict(report: Report, *, strict: bool) -> str:
    failed = sum(problem.status == "failed" for problem in report.problems)
    warned = len(report.problems) - failed
    subject = "the student would be trained alone" if report.terms is None else "distillation would act"
    warnings = f"{warned} warning{'s' * (warned != 1)}"
    if failed:
        return f"{failed} failed, {warnings}: mend what failed, and check again"
    if warned and strict:
        return f"{warnings}, which --strict refuses"
    return f"{subject}; {warnings}" if warned else subject


def _data(data: dict[str, Any]) -> Iterator[str]:
    rows = [("", "images", "boxes", "without objects")]
    rows += [(split, f["images"], f["boxes"], f["empty_images"]) for split, f in data.items()]
    yield from _table(rows)
    names = dict.fromkeys(name for found in data.values() for name in found["classes"])
    rows = [("boxes of", *data)]
    rows += [(name, *(found["classes"].get(name, 0) for found in data.values())) for name in names]
    yield from _table(rows)
    for split, found in data.items():
        yield from (f"{split}, mended: {problem}" for problem in found["problems"])


def _classes(classes: dict[str, Any] | None) -> Iterator[str]:
    if classes is None:
        return
    order = "in another order" if classes["reordered"] else "in the same order"
    how = "assumed to be in the data's order, for the teacher's weights name none"
    how = how if classes["assumed"] else f"matched by name; the teacher has them {order}"
    yield f"{len(classes['pairs'])} classes {how}"
    rows = [("class", "student column", "teacher column", "teacher's name")]
    rows += [(pair["name"], pair["student"], pair["teacher"], pair["teacher_name"]) for pair in classes["pairs"]]
    yield from _table(rows)
    if classes["only_teacher"]:
        yield f"only the teacher has: {', '.join(classes['only_teacher'])}"


def _resized(pair: dict[str, Any]) -> str:
    if pair["stride"] == pair["teacher_stride"]:
        return ""
    finer = pair["teacher_stride"] < pair["stride"]
    return "the teacher's finer map is averaged" if finer else "the teacher's coarser map is enlarged"


def _levels(levels: dict[str, Any] | None) -> Iterator[str]:
    if levels is None:
        return
    rows = [("student stride", "channels", "teacher stride", "channels", "")]
    rows += [
        (str(p["stride"]), p["student_channels"], f"{p['teacher_stride']:g}", p["teacher_channels"], _resized(p))
        for p in levels["pairs"]
    ]
    yield from _table(rows)
    if levels["left_out"]:
        yield f"without a partner: {', '.join(levels['left_out'])}"


def _teacher(teacher: dict[str, Any] | None) -> Iterator[str]:
    if teacher is None:
        return
    yield f"on {teacher['images']} validation images, both as they stand now"
    rows = [("", "AP", "AP50", "AP75")]
    known = [side for side in ("teacher", "student") if teacher[side] is not None]
    rows += [(side, *(f"{teacher[side][key]:.3f}" for key in rows[0][1:])) for side in known]
    yield from _table(rows)
    if teacher["teacher"] is None:
        yield "the teacher gives features alone, so it has no AP"
    loaded = teacher["tensors"] - len(teacher["not_loaded"]) if teacher["origin"] else 0
    yield f"{loaded} of {teacher['tensors']} tensors are those of {teacher['origin'] or 'no file'}"


def _terms(terms: dict[str, Any] | None) -> Iterator[str]:
    if terms is None:
        return
    rows: list[Sequence[str]] = [("term", "value", "weight", "pull against the task's", "cosine")]
    for name, term in terms["terms"].items():
        shown = [_number(term[key]) for key in ("value", "weight", "ratio", "cosine")]
        rows.append((name + " (placebo)" * term["placebo"], *shown))
    yield from _table(rows)
    for name, term in terms["terms"].items():
        if term["weight"] == "auto":
            parts = (f"{part.removeprefix(name + '/')}: {_number(w)}" for part, w in term["weights"].items())
            yield f"{name}: auto comes to {', '.join(parts)} on this batch"
    for title, faults in terms["checks"].items():
        yield f"{'failed' if faults else 'ok':<8}{title}"


def _step(step: dict[str, Any] | None) -> Iterator[str]:
    if step is None:
        return
    yield f"batch of {step['batch_size']} on {step['device']}; loading it takes {step['load_seconds']:.3f} s"
    rows = [("", "a step", f"training, {step['batches']} steps")]
    for label, key in (("with the teacher", ""), ("student alone", "alone_")):
        rows.append((label, f"{step[key + 'seconds']:.3f} s", duration(step[key + "run_seconds"])))
    yield from _table(rows)
    yield "evaluation comes on top"


def _memory(memory: dict[str, Any] | None) -> Iterator[str]:
    if memory is None:
        return
    parts = ("parameters", "gradients", "optimizer", "average", "teacher", "activations", "total")
    yield from _table([(name, size(memory[name])) for name in parts if memory[name]])
    yield "activations: what the backward pass keeps of a batch; buffers inside an operation come on top"
    if memory["gpu_peak"] is not None:
        yield f"measured on the GPU, all included: {size(memory['gpu_peak'])}"


def _trial(trial: dict[str, Any] | None) -> Iterator[str]:
    if trial is None:
        return
    yield (
        f"{trial['steps']} of {trial['of_steps']} steps from the same start on {trial['training_images']} training "
        f"images, judged on {trial['held_out_images']} others that are held out"
    )
    rows: list[Sequence[str]] = [("", "task's loss", "difference", "95 % over batches", "AP", "")]
    for one in trial["students"]:
        ap = "–" if one["AP"] is None else f"{one['AP']:.3f}"
        gap = "" if one["difference"] is None else f"{one['difference']:+.3g}"
        ends = "" if one["interval"] is None else f"{one['interval'][0]:+.3g} … {one['interval'][1]:+.3g}"
        rows.append((one["name"], f"{one['loss']:.4g}", gap, ends, ap, one["way"] or ""))
    yield from _table(rows)
    yield from trial["notes"]
    yield "a hint of few steps and one start, no verdict: `kdet compare` gives one"


def _table(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The first column to the left, numbers to the right."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [f"{first!s:<{widths[0]}}", *(f"{cell!s:>{w}}" for cell, w in zip(rest, widths[1:], strict=True))]
        yield (_MARGIN.join(cells)).rstrip()


def _number(value: float | str | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def size(count: int) -> str:
    """Format bytes in MiB or GiB."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
