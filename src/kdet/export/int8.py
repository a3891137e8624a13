"""ONNX in eight bits by ONNX Runtime's quantiser, with calibration images."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kdet.export.about import KEY, About

QUANTISED = ("Conv", "Gemm", "MatMul")
"""Kinds of nodes; decoding and NMS stay in float32, where a pixel is a pixel."""


def quantise(source: Path, target: Path, inputs: Iterable[Tensor], about: About) -> None:
    """An ONNX file → the same with weights and activations in eight bits, metadata included.

    Args:
        source: the file in float32.
        target: where it goes.
        inputs: what the file is given, one image 1×3×H×W each; the ranges of activations come from them.
        about: the source's metadata.
    """
    import onnx
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(q.CalibrationDataReader):
        """Hands the images over."""

        def __init__(self) -> None:
            self._inputs: Iterator[Tensor] = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            """The next image, or None at the end."""
            image = next(self._inputs, None)
            return None if image is None else {"images": image.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        q.quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=True,  # processors without VNNI add 8-bit products in 16 bits, which overflow
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )
    model = onnx.load(target)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=replace(about, precision="int8").as_text())
    onnx.save(model, target)
