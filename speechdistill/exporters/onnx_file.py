"""A student as an ONNX file, float32 or with int8 linear layers, run by ONNX Runtime."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.exporters.graph import INPUTS, Run, StudentGraph, traced

OPSET = 18


def write_onnx(graph: StudentGraph, path: Path) -> None:
    """Write the graph, weights inside, batch and length dynamic.

    Raises:
        UserError: the extra "export" is not installed.
    """
    _require("onnx", "onnxscript")
    with _quietly():
        program = torch.onnx.export(
            traced(graph),
            input_names=list(INPUTS),
            output_names=graph.output_names,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def quantise(source: Path, path: Path) -> None:
    """Write an ONNX file again with int8 weights in its linear layers, their inputs quantised as they come.

    Convolutions, norms and attention's own products stay float32.

    Raises:
        UserError: the extra "export" is not installed.
    """
    _require("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quietly():
        quantize_dynamic(
            source, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )


def onnx_run(path: Path, num_threads: int | None = None) -> Run:
    """Load a file into ONNX Runtime, on the CPU.

    Raises:
        UserError: the extra "export" is not installed.
    """
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or torch.get_num_threads()
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(waveforms: Tensor, num_samples: Tensor) -> list[Tensor]:
        given = dict(zip(INPUTS, (waveforms.numpy(), num_samples.numpy()), strict=True))
        return [torch.from_numpy(output) for output in session.run(None, given)]

    return run


def _require(*packages: str) -> None:
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} is not installed: pip install 'speechdistill[export]'.")


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what torch, onnxscript and ONNX Runtime tell about their own insides."""
    loggers = [logging.getLogger(name) for name in (None, "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
