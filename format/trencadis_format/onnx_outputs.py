"""Tensors within an ONNX file: their names, and the file with some of them as outputs.

The file is read from its protobuf bytes alone, so that this needs no package but onnxruntime.
"""

from collections.abc import Iterable

from trencadis_format.protobuf import field_bytes, fields

__all__ = ["made_tensors", "output_tensors", "with_outputs"]

GRAPH = 7
"""Field of the graph in a model."""

NODE, OUTPUT = 1, 12
"""Fields of nodes and outputs in a graph."""

NAME = 1
"""Field of the name in an output."""

NODE_OUTPUT = 2
"""Field of the outputs in a node."""


def made_tensors(model: bytes) -> list[str]:
    """Names of the tensors that a model's nodes make, graphs within nodes not included.

    Raises
    ------
    ValueError
        If the bytes are no protobuf message.
    """
    return _names(model, NODE, NODE_OUTPUT)


def output_tensors(model: bytes) -> list[str]:
    """Names of a model's outputs.

    Raises
    ------
    ValueError
        If the bytes are no protobuf message.
    """
    return _names(model, OUTPUT, NAME)


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """The model with further tensors as outputs; those that are outputs already stay such.

    Messages of one field are merged, says protobuf: so what is added follows the model, of which
    nothing has to be written again.

    Raises
    ------
    ValueError
        If the bytes are no protobuf message.
    """
    known = set(output_tensors(model))
    added = b"".join(
        field_bytes(OUTPUT, field_bytes(NAME, name.encode()))
        for name in dict.fromkeys(names)
        if name not in known
    )
    return model + field_bytes(GRAPH, added) if added else model


def _names(model: bytes, wanted: int, name: int) -> list[str]:
    """Texts of a field of all messages of one kind in a model's graph, each once."""
    found: dict[str, None] = {}
    for number, _, graph in fields(model):
        if number != GRAPH:
            continue
        for part, kind, message in fields(graph):
            if part != wanted or kind != 2:
                continue
            for inner, of_kind, data in fields(message):
                if inner == name and of_kind == 2 and data:
                    found[bytes(data).decode("utf-8", "replace")] = None
    return list(found)
