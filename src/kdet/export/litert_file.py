"""LiteRT's `.tflite`: candidates without NMS, one number of images."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.errors import InputError, one_line
from kdet.export.about import KEY, About
from kdet.export.graph import Graph
from kdet.export.target import Run, Target

_ENTRY = f"{KEY}.json"


def _write(graph: Graph, about: About, path: Path) -> None:
    import litert_torch  # pyright: ignore

    assert about.batch is not None, "the table of targets says that it takes one number"
    model: Any = litert_torch.convert(graph, (graph.example(about.batch),))
    model.export(str(path))
    # As the format keeps files that belong to a model: a zip behind it, which the interpreter passes over.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_ENTRY, about.as_text())


def _open(path: Path, in_fp32: bool) -> tuple[About, Run]:
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore

    try:
        interpreter: Any = Interpreter(model_path=str(path), num_threads=torch.get_num_threads())
        interpreter.allocate_tensors()
        with zipfile.ZipFile(path) as archive:
            text = archive.read(_ENTRY).decode() if _ENTRY in archive.namelist() else None
    except (ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: LiteRT cannot open it ({one_line(error)[:300]}); export it anew") from None
    about = About.from_text(text, path)
    place = interpreter.get_input_details()[0]["index"]
    places = [output["index"] for output in sorted(interpreter.get_output_details(), key=lambda one: one["name"])]

    def run(images: Tensor) -> list[Tensor]:
        interpreter.set_tensor(place, images.numpy())
        interpreter.invoke()
        return [torch.from_numpy(interpreter.get_tensor(output)) for output in places]

    return about, run


LITERT = Target(
    name="litert",
    suffix=".tflite",
    needs=("litert_torch", "ai_edge_litert"),
    extra="litert",
    write=_write,
    open=_open,
    selects=False,
    any_batch=False,
)
