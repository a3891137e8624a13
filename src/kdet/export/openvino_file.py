"""OpenVINO's pair of `.xml` and `.bin`, converted from ONNX."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.errors import InputError, one_line
from kdet.export.about import KEY, About
from kdet.export.graph import Graph
from kdet.export.onnx_file import ONNX
from kdet.export.target import Run, Target

_HINT = "INFERENCE_PRECISION_HINT"
_NAMES = {"f32": "fp32", "f16": "fp16"}


def _write(graph: Graph, about: About, path: Path) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "model.onnx"
        ONNX.write(graph, about, between)
        model = openvino.convert_model(between)
    model.set_rt_info(about.as_text(), KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _open(path: Path, in_fp32: bool) -> tuple[About, Run]:
    import openvino

    core: Any = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path}: OpenVINO cannot open it ({one_line(error)[:300]}); export it anew") from None
    about = About.from_text(str(model.get_rt_info(KEY).value) if model.has_rt_info(KEY) else None, path)
    asked: dict[str, Any] = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if in_fp32:  # else it rounds to bf16 or fp16 where the processor has such instructions
        asked[_HINT] = "f32"
    compiled = core.compile_model(model, "CPU", asked)

    def run(images: Tensor) -> list[Tensor]:
        found = compiled(images.numpy())
        return [torch.from_numpy(found[output].copy()) for output in compiled.outputs]

    return about, run


def _own_precision() -> str:
    import openvino

    core: Any = openvino.Core()
    name = str(core.get_property("CPU", _HINT).get_type_name())
    return _NAMES.get(name, name)


OPENVINO = Target(
    name="openvino",
    suffix=".xml",
    needs=("openvino", *ONNX.needs),
    extra="openvino",
    write=_write,
    open=_open,
    own_precision=_own_precision,
)
