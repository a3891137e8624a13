"""ExecuTorch's `.pte` for phones and boards, with XNNPACK: candidates without NMS, one number of images."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.errors import InputError, one_line
from kdet.export.about import KEY, About
from kdet.export.graph import Graph
from kdet.export.pt2_file import exported
from kdet.export.target import Run, Target


def _write(graph: Graph, about: About, path: Path) -> None:
    text = torch.tensor(list(about.as_text().encode()), dtype=torch.uint8)  # a method that gives bytes: it has no text
    program = exported(graph, about)
    with warnings.catch_warnings(action="ignore"):  # the toolkit's, about itself
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # pyright: ignore
        from executorch.exir import to_edge_transform_and_lower  # pyright: ignore

        lowered: Any = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods={KEY: text}
        )
        path.write_bytes(lowered.to_executorch().buffer)


def _open(path: Path, in_fp32: bool) -> tuple[About, Run]:
    with warnings.catch_warnings(action="ignore"):  # as above
        from executorch.runtime import Runtime  # pyright: ignore

    try:
        program: Any = Runtime.get().load_program(path)
        text = bytes(program.load_method(KEY).execute([])[0].tolist()).decode() if KEY in program.method_names else None
        method = program.load_method("forward")
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: ExecuTorch cannot open it ({one_line(error)[:300]}); export it anew") from None
    about = About.from_text(text, path)

    def run(images: Tensor) -> list[Tensor]:
        return [output.clone() for output in method.execute([images])]  # the next run writes into the same memory

    return about, run


EXECUTORCH = Target(
    name="executorch",
    suffix=".pte",
    needs=("executorch",),
    extra="executorch",
    write=_write,
    open=_open,
    selects=False,
    any_batch=False,
)
