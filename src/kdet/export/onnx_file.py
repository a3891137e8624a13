"""ONNX, written by torch's exporter and run by ONNX Runtime."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdet.errors import InputError, one_line
from kdet.export.about import KEY, About
from kdet.export.graph import Graph
from kdet.export.pt2_file import exported, refusal
from kdet.export.target import Run, Target

_OPSET = 18


def _outputs_of(about: About) -> list[str]:
    """Names of a graph's outputs."""
    return ["boxes", "scores", "labels"] if about.selects else ["scores", "boxes"]


def _write(graph: Graph, about: About, path: Path) -> None:
    import onnx

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it tells of empty lists, which are meant
    written = _without_checks(exported(graph, about))
    try:
        with warnings.catch_warnings(action="ignore"):  # the exporter's, about itself
            program = torch.onnx.export(
                written,  # where the module itself is given, a failure makes it try ways that fix the batch
                dynamo=True,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=_outputs_of(about),
                verbose=False,
            )
    except Exception as error:  # of several classes of its own
        raise InputError(refusal("torch.onnx", about, error)) from None
    assert program is not None, "the exporter returns its program"
    model = program.model_proto
    model.metadata_props.add(key=KEY, value=about.as_text())
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _without_checks(written: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Leave out what a model asserts of its own tensors: ONNX has no words for that, nor for all it needs."""
    nodes = written.graph_module.graph
    for node in list(nodes.nodes):
        if str(node.target).startswith("aten._assert_"):
            nodes.erase_node(node)
    nodes.eliminate_dead_code()
    written.graph_module.recompile()
    return written


def _open(path: Path, in_fp32: bool) -> tuple[About, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors are of many classes
        raise InputError(f"{path}: ONNX Runtime cannot open it ({one_line(error)[:300]}); export it anew") from None
    about = About.from_text(session.get_modelmeta().custom_metadata_map.get(KEY), path)

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"images": images.numpy()})]

    return about, run


ONNX = Target(
    name="onnx",
    suffix=".onnx",
    needs=("onnx", "onnxscript", "onnxruntime"),
    extra="onnx",
    write=_write,
    open=_open,
)
