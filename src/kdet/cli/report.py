"""kdet report."""

from pathlib import Path
from typing import Annotated

import typer

from kdet.cli.options import AsJson, show


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Default: report.html in the first run.")
    ] = None,
    speed: Annotated[
        Path | None, typer.Option("--speed", metavar="FILE", help="What kdet speed --out wrote: AP against latency.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page about one or several runs.

    Example: kdet report runs/bccd-distilled
    """
    from kdet.detectors import read_weights
    from kdet.files import is_file
    from kdet.report import run_page, write_page
    from kdet.train.state.run_folder import BEST

    for weights in (run / BEST for run in runs):
        if is_file(weights):
            read_weights(weights)  # a run whose weights are NaN is no result
    target = out or runs[0] / "report.html"
    write_page(target, run_page(runs, speed=speed))
    show({"page": str(target)}, as_json, lambda: f"→ {target}")
