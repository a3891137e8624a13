"""OpenVINO's pair of `.xml` and `.bin`, converted from ONNX."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.errors import InputError
from kdet.export.about import KEY, About
from kdet.export.graph import Graph
from kdet.export.onnx_file import ONNX
from kdet.export.target import Run, Target


def _write(graph: Graph, about: About, path: Path) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "model.onnx"
        ONNX.write(graph, about, between)
        model = openvino.convert_model(between)
    model.set_rt_info(about.as_text(), KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _open(path: Path) -> tuple[About, Run]:
    import openvino

    core: Any = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path}: OpenVINO cannot open it ({str(error).splitlines()[0]})") from None
    about = About.from_text(str(model.get_rt_info(KEY).value) if model.has_rt_info(KEY) else None, path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})

    def run(images: Tensor) -> list[Tensor]:
        found = compiled(images.numpy())
        return [torch.from_numpy(found[output].copy()) for output in compiled.outputs]

    return about, run


OPENVINO = Target(
    name="openvino", suffix=".xml", needs=("openvino", *ONNX.needs), extra="openvino", write=_write, open=_open
)
