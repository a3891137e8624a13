"""A `.pt2` of torch.export: torch and torchvision alone run it."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.errors import InputError, one_line
from kdet.export.about import KEY, About
from kdet.export.graph import Graph
from kdet.export.target import Run, Target

_ENTRY = f"{KEY}.json"


def exported(graph: Graph, about: About) -> torch.export.ExportedProgram:
    """Return the graph as torch.export writes it down, for one number of images or for any."""
    batch = about.batch or 2  # an example of one image would be taken for "always one"
    shapes = {"images": {0: torch.export.Dim("batch")}} if about.batch is None else None
    # What torch and torchvision warn of is between the two of them.
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            return torch.export.export(graph, (graph.example(batch),), dynamic_shapes=shapes)
    except Exception as error:  # of many classes, by what it met in the model
        raise InputError(refusal("torch.export", about, error)) from None


def refusal(tool: str, about: About, error: BaseException) -> str:
    """Return one line of an exporter's many, from what it met first."""
    while error.__cause__:
        error = error.__cause__
    what = "for any number of images" if about.batch is None else f"for {about.batch} image{'s' * (about.batch > 1)}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{tool} cannot write this {about.family} down {what}: {lines[0]}"


def _write(graph: Graph, about: About, path: Path) -> None:
    torch.export.save(exported(graph, about), path, extra_files={_ENTRY: about.as_text()})


def _open(path: Path, in_fp32: bool) -> tuple[About, Run]:
    extra: dict[str, Any] = {_ENTRY: ""}
    try:
        module = torch.export.load(path, extra_files=extra).module()
    except Exception as error:  # a damaged archive may fail anywhere
        raise InputError(f"{path}: torch.export cannot open it ({one_line(error)[:300]}); export it anew") from None
    about = About.from_text(extra[_ENTRY] or None, path)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return module(images)

    return about, run


PT2 = Target(name="pt2", suffix=".pt2", needs=(), extra="", write=_write, open=_open)
