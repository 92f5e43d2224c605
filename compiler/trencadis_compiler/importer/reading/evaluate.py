"""Values of nodes that depend on constants alone, by onnxruntime as it runs them itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx

from trencadis_format.onnxruntime_door import Mode, open_session

__all__ = ["EvaluationError", "evaluate_nodes"]

Array = npt.NDArray[Any]

IR_VERSION = 10


class EvaluationError(Exception):
    """onnxruntime cannot run the nodes."""


def evaluate_nodes(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
    outputs: Sequence[onnx.ValueInfoProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> list[Array]:
    """Run nodes that read constants only.

    Parameters
    ----------
    nodes : sequence of NodeProto
        Nodes, each after those that it reads.
    constants : mapping of str to TensorProto
        What they read that none of them makes.
    outputs : sequence of ValueInfoProto
        The tensors asked for, with their types.
    opsets : sequence of OperatorSetIdProto
        Versions of the operators.

    Raises
    ------
    EvaluationError
        If onnxruntime refuses the nodes, or fails on them.
    """
    graph = onnx.helper.make_graph(nodes, "constants", [], outputs, list(constants.values()))
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    try:
        session = open_session(model.SerializeToString(), Mode.PLAIN, threads=1)
        return list(session.run([value.name for value in outputs], {}))
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's errors, and protobuf's, have no common base
        raise EvaluationError(" ".join(str(error).split())[:160]) from error
