"""The picture of AP against latency, from what `kdet speed` wrote."""

from pathlib import Path

from kdet.errors import InputError
from kdet.files import parse_json, read_text
from kdet.report.charts import Chart, Series, line_chart
from kdet.report.curves import number


def latency_chart(path: Path) -> Chart:
    """Return a point a model; those whose AP is not known are named in the note.

    Raises:
        InputError: not what `kdet speed --out` writes, or no model of it has an AP.
    """
    text = read_text(path)
    if text is None:
        raise InputError(f"{path}: no such file; `kdet speed --out` writes it")
    content = parse_json(text, str(path))
    try:
        rows = [(str(row["model"]), number(row["latency_ms"]), number(row["ap"])) for row in content["models"]]
        devices = " and ".join(
            sorted({f"{row['device']} in {row.get('precision', 'fp32')}" for row in content["models"]})
        )
        where = f"{devices}, {content['threads']} threads"
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a result of `kdet speed` ({error!r}); `kdet speed --out` writes one") from None
    known = [(name, ms, ap) for name, ms, ap in rows if ms is not None and ap is not None]
    if not known:
        raise InputError(f"{path}: no model in it has an AP; measure run folders, or files of `kdet export`")
    without = [name for name, _, ap in rows if ap is None]
    left_out = f" Without a known AP: {', '.join(without)}." if without else ""
    return line_chart(
        "AP against latency",
        [Series(name=name, x=[ms], y=[ap], slot=slot) for slot, (name, ms, ap) in enumerate(known)],
        x_label="milliseconds an image",
        y_limits=(0.0, max(0.01, 1.1 * max(ap for *_, ap in known))),
        x_limits=(0.0, 1.1 * max(ms for _, ms, _ in known)),
        note=f"Up is better, left is faster. {where}; from pixels of the input's size to boxes.{left_out}",
    )
