"""kdet speed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kdet.cli.options import AllowCode, AsJson, Precision, RuntimePrecision, show

_HEAD = (
    *("model", "detector", "device", "precision", "AP", "ms/image", "p90", "images/s", "×"),
    *("params M", "GFLOPs", "file MB", "peak MB"),
)
_WORDS = 4
"""Columns of words; numbers follow."""


def speed(
    models: Annotated[
        list[Path], typer.Argument(metavar="RUN|FILE…", help="Run folders, weights files or exported files.")
    ],
    image_size: Annotated[int | None, typer.Option("--image-size", help="Long side; default: each at its own.")] = None,
    batch: Annotated[int, typer.Option("--batch-size", help="Images at a time where throughput is measured.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", help="Of measuring for each model.")] = 5.0,
    threads: Annotated[int | None, typer.Option("--threads", help="Of the processor; default: torch's choice.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu or cuda; default: a GPU where there is one. Files run on the CPU."),
    ] = None,
    runtime_precision: RuntimePrecision = Precision.FP32,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Peak memory, for which each opens in a process of its own.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write it as JSON, for kdet report --speed.")
    ] = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Latency, throughput, size and memory of trained models on this machine, measured in turns.

    From pixels at the network's size to boxes after NMS; decoding and resizing are left out.

    Example: kdet speed runs/teacher runs/distilled exported/student.onnx --out speed.json
    """
    import torch

    from kdet.data import image_size_of
    from kdet.errors import InputError
    from kdet.train.state.run_folder import write_json
    from kdet.workflows.speed import as_json as content_of
    from kdet.workflows.speed import measure

    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads: expected at least 1, got {threads}")
        torch.set_num_threads(threads)
    if device not in (None, "cpu", "cuda"):
        raise InputError(f"--device: expected cpu or cuda, got {device!r}")
    size = None if image_size is None else image_size_of(image_size)
    speeds = measure(
        models,
        image_size=size,
        batch=batch,
        seconds=seconds,
        memory=memory,
        device=device,
        in_fp32=runtime_precision is Precision.FP32,
    )
    found = content_of(speeds)
    if out is not None:
        write_json(out, found)
    show(found, as_json, lambda: _table(found))


def _table(found: dict[str, Any]) -> str:
    """A row a model; the first is what the others are compared with."""
    first = found["models"][0]["latency_ms"]
    rows = [_HEAD, *(_row(one, first) for one in found["models"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        names, numbers = row[:_WORDS], row[_WORDS:]
        cells = [name.ljust(width) for name, width in zip(names, widths[:_WORDS], strict=True)]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[_WORDS:], strict=True)]
        lines.append("  ".join(cells))
    where = f"{found['threads']} threads, torch {found['torch']}"
    return "\n".join([*lines, f"{where}; × is against the first"])


def _row(one: dict[str, Any], first_ms: float) -> tuple[str, ...]:
    peak = "–" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 1e6:.0f}"
    return (
        one["model"],
        one["family"],
        one["device"],
        one["precision"],
        "–" if one["ap"] is None else f"{one['ap']:.3f}",
        f"{one['latency_ms']:.1f}",
        f"{one['latency_p90_ms']:.1f}",
        f"{one['images_per_second']:.1f}",
        f"{first_ms / one['latency_ms']:.2f}",
        _scaled(one["parameters"], 1e6),
        _scaled(one["flops"], 1e9),
        f"{one['file_bytes'] / 1e6:.1f}",
        peak,
    )


def _scaled(value: int | None, unit: float) -> str:
    return "–" if value is None else f"{value / unit:.2f}"
