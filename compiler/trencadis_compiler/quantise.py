"""Quantising float models, by onnxruntime: the only door to its quantiser."""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import CompileError
from trencadis_compiler.graph import Graph

__all__ = ["is_quantised", "quantised_copy"]

Array = npt.NDArray[Any]


def is_quantised(graph: Graph) -> bool:
    """Whether a graph has quantisers at all."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes)


@contextmanager
def quantised_copy(path: Path, graph: Graph, inputs: Array) -> Iterator[Path]:
    """A quantised copy of a float model, calibrated on `inputs`; gone when the context ends.

    Weights become int8 with a scale a kernel, activations int8 with a scale a tensor. What can be
    merged into a layer (BatchNormalization, Add behind MatMul) is merged first.

    Raises
    ------
    CompileError
        If onnxruntime is missing or cannot quantise the model.
    """
    try:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            quant_pre_process,
            quantize_static,
        )
    except ImportError as error:
        raise CompileError(
            f"{path}: quantising a float model needs the package {error.name!r}; install it with: "
            "pip install 'trencadis[compiler]'"
        ) from error

    info = graph.inputs[0]
    fixed_batch = info.shape[0] or 1

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(
                inputs[i : i + fixed_batch]
                for i in range(0, len(inputs) - fixed_batch + 1, fixed_batch)
            )

        def get_next(self) -> Any:
            batch = next(self._batches, None)
            return None if batch is None else {info.name: np.ascontiguousarray(batch)}

    with tempfile.TemporaryDirectory(prefix="trencadis-") as folder:
        merged, copy = Path(folder) / "merged.onnx", Path(folder) / "quantised.onnx"
        # Its advice on pre-processing comes as warnings of the root logger.
        logging.disable(logging.WARNING)
        try:
            quant_pre_process(str(path), str(merged), skip_symbolic_shape=True)
            _merge_biases(merged)
            quantize_static(
                str(merged), str(copy), Reader(), quant_format=QuantFormat.QDQ, per_channel=True
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise CompileError(
                f"{path}: onnxruntime cannot quantise the model: {reason}"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        yield copy


def _merge_biases(path: Path) -> None:
    """Make one Gemm of MatMul and Add, which onnxruntime does not do everywhere."""
    import onnx

    model = onnx.load(str(path))
    graph = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    constants = {tensor.name: tensor.dims for tensor in graph.initializer}
    nodes = list(model.graph.node)
    users = Counter(name for node in nodes for name in node.input)
    matmuls = {
        node.output[0]: node
        for node in nodes
        if node.op_type == "MatMul" and ranks.get(node.input[0]) == 2 and node.input[1] in constants
    }
    for add in [node for node in nodes if node.op_type == "Add"]:
        for product, bias in (tuple(add.input), tuple(add.input)[::-1]):
            matmul = matmuls.get(product)
            if matmul and users[product] == 1 and len(constants.get(bias, (0, 0))) < 2:
                gemm = onnx.helper.make_node(
                    "Gemm", [*matmul.input, bias], list(add.output), matmul.name
                )
                nodes[nodes.index(add)] = gemm
                nodes.remove(matmul)
                break
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))
