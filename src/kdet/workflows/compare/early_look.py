"""Whether a distilled run falls behind the student alone early on: said while the run can still be stopped.

One look at AP is judged, the last one in the first quarter of the steps, or the first where none is so early: of many
looks one would lie below by chance alone.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import stdev

from kdet.errors import InputError
from kdet.files import parse_json, read_text
from kdet.report.collect import EvalRecord, looks_of
from kdet.train.state.run_folder import METRICS

_EARLY = 0.25


def fell_behind(folder: Path, alone: Sequence[Path]) -> str | None:
    """Return what is to be said of a run, under way or finished; None while there is nothing to say.

    Args:
        folder: of the run.
        alone: folders of the student alone, that of the same seed first; they too may be under way, or not there yet.
    """
    look = _judged(folder)
    if look is None:
        return None
    own = look.metrics["AP"]
    known = [_ap_at(other, look.step) for other in alone]
    paired, aps = known[0], [ap for ap in known if ap is not None]
    if paired is None or round(paired - own, 3) <= 0:
        return None
    spread = stdev(aps) if len(aps) > 1 else None
    if spread is not None and paired - own <= spread:
        return None
    compared = "by this one seed" if spread is None else f"more than its spread over {len(aps)} seeds ({spread:.3f})"
    return (
        f"AP {own:.3f} at epoch {look.epoch} lies {paired - own:.3f} below the student alone with the same seed "
        f"({paired:.3f}), {compared}; a smaller `ratio` or weight, or a `schedule:` that ends early, may mend it"
    )


def _judged(folder: Path) -> EvalRecord | None:
    """The look that is judged; None where it is not there yet, or where it is the run's result."""
    looks, path = looks_of(folder), folder / METRICS
    total = parse_json(read_text(path) or "{}", str(path)).get("total_steps")
    if total is None or not looks:  # before the first look, or a run of an earlier kdet
        return None
    until = _EARLY * total
    if looks[-1].step + looks[0].step <= until:  # they are equally far apart: the next one is early, too
        return None
    early = [look for look in looks if look.step <= until] or looks[:1]
    return early[-1] if early[-1].step < total else None


def _ap_at(folder: Path, step: int) -> float | None:
    try:
        return next((look.metrics["AP"] for look in looks_of(folder) if look.step == step), None)
    except InputError:  # its first line is being written: no reason to end a run beside it
        return None
