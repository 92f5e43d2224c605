"""Metadata of servers and models, as the Open Inference Protocol has them."""

import importlib.metadata
from typing import Any

from trencadis_host import NodeArg
from trencadis_serve.model import ServedModel
from trencadis_serve.tensors import datatype_of, dtype_of_node

__all__ = ["PLATFORM", "describe_model", "describe_server"]

PLATFORM = "trencadis_tcd"
EXTENSIONS = ["binary_tensor_data", "model_repository"]


def describe_server() -> dict[str, Any]:
    """Name, version and extensions of this server."""
    return {
        "name": "trencadis",
        "version": importlib.metadata.version("trencadis"),
        "extensions": EXTENSIONS,
    }


def describe_model(model: ServedModel, versions: list[str]) -> dict[str, Any]:
    """Inputs and outputs of a model; `parameters` has its digest and predicted cycles."""
    return {
        "name": model.spec.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_tensor(node) for node in model.inputs],
        "outputs": [_tensor(node) for node in model.outputs],
        "parameters": model.facts,
    }


def _tensor(node: NodeArg) -> dict[str, Any]:
    return {
        "name": node.name,
        "datatype": datatype_of(dtype_of_node(node.type)),
        "shape": [size if isinstance(size, int) else -1 for size in node.shape],
    }
