"""Shapes that a model computes, where they follow from the sizes of its inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from trencadis_compiler.importer.reading.draft import Draft, attributes_of
from trencadis_compiler.importer.steps.shapes import infer_shapes

__all__ = ["resolve_shapes"]

Sizes = list[int | None]
"""Integers of a vector or a scalar; None for one that is not known."""

MAX_SIZES = 64
"""Longer vectors are no shapes."""


def resolve_shapes(draft: Draft) -> None:
    """Make constants of computed shapes.

    `Shape` and what is done with its numbers are followed number by number, so that an open batch
    size leaves the others known. What is known whole becomes a constant; a Reshape whose target has
    one unknown number takes -1 for it, which is the same for every size that the model can run
    with.
    """
    infer_shapes(draft)
    known = _Known(draft)
    for node in draft.graph.node:
        known.follow(node)
    for node in draft.graph.node:
        if node.op_type == "Reshape" and not node.domain:
            _resolve_reshape(draft, node, known)
    for name, sizes in known.computed.items():
        if None not in sizes and name not in draft.outputs():
            _make_constant(draft, name, sizes, known.is_scalar[name], known.types[name])
    draft.drop_unread()


def _resolve_reshape(draft: Draft, node: onnx.NodeProto, known: "_Known") -> None:
    sizes = known.computed.get(node.input[1])
    if sizes is None or sizes.count(None) != 1 or -1 in sizes:
        return
    if 0 in sizes and not attributes_of(node).get("allowzero", 0):
        copied = known.shapes.get(node.input[0], [])
        sizes = [
            copied[axis] if size == 0 and axis < len(copied) else size
            for axis, size in enumerate(sizes)
        ]
        if sizes.count(None) != 1 or 0 in sizes:
            return
    if 0 in sizes:
        return
    target = np.array([-1 if size is None else size for size in sizes], np.int64)
    node.input[1] = draft.add_constant(f"{node.output[0]}_shape", target)


def _make_constant(draft: Draft, name: str, sizes: Sizes, is_scalar: bool, dtype: Any) -> None:
    array = np.array(sizes, dtype)
    tensor = onnx.numpy_helper.from_array(array.reshape(()) if is_scalar else array, name)
    nodes = []
    for node in draft.graph.node:
        if name in node.output:
            if [output for output in node.output if output] != [name]:
                return
            continue
        nodes.append(node)
    draft.set_nodes(nodes)
    draft.graph.initializer.append(tensor)


class _Known:
    """Numbers of shapes that are known, tensor by tensor."""

    def __init__(self, draft: Draft) -> None:
        self.shapes: dict[str, Sizes] = {}
        self.computed: dict[str, Sizes] = {}
        self.is_scalar: dict[str, bool] = {}
        self.types: dict[str, Any] = {}
        self._given: dict[str, Sizes] = {}
        for value in (*draft.graph.input, *draft.graph.value_info, *draft.graph.output):
            kind = value.type.tensor_type
            if value.type.WhichOneof("value") == "tensor_type" and kind.HasField("shape"):
                self.shapes[value.name] = [
                    dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim
                ]
        for tensor in draft.graph.initializer:
            self.shapes[tensor.name] = list(tensor.dims)
            integers = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
            if integers and len(tensor.dims) < 2 and sum(tensor.dims) <= MAX_SIZES:
                array = draft.array(tensor)
                self._given[tensor.name] = [int(number) for number in array.reshape(-1)]
                self.is_scalar[tensor.name] = array.ndim == 0
                self.types[tensor.name] = array.dtype

    def numbers(self, name: str) -> Sizes | None:
        """Knowledge of a tensor's numbers."""
        return self.computed.get(name, self._given.get(name))

    def constants(self, name: str) -> list[int] | None:
        """A tensor's numbers, if all are known."""
        sizes = self.numbers(name)
        return None if sizes is None or None in sizes else [s for s in sizes if s is not None]

    def follow(self, node: onnx.NodeProto) -> None:
        """Note what a node makes of numbers that are known."""
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain:
            return
        found = rule(self, node)
        if found is not None:
            sizes, is_scalar, dtype = found
            if len(sizes) <= MAX_SIZES:
                name = node.output[0]
                self.computed[name], self.is_scalar[name] = sizes, is_scalar
                self.types[name] = dtype


Found = tuple[Sizes, bool, Any] | None
Rule = Callable[[_Known, onnx.NodeProto], Found]


def _shape(known: _Known, node: onnx.NodeProto) -> Found:
    sizes = known.shapes.get(node.input[0])
    if sizes is None:
        return None
    values = attributes_of(node)
    return sizes[slice(values.get("start", 0), values.get("end", len(sizes)))], False, np.int64


def _gather(known: _Known, node: onnx.NodeProto) -> Found:
    sizes, indices = known.numbers(node.input[0]), known.constants(node.input[1])
    if sizes is None or indices is None or known.is_scalar[node.input[0]]:
        return None
    if any(not -len(sizes) <= index < len(sizes) for index in indices):
        return None
    chosen = [sizes[index] for index in indices]
    return chosen, known.is_scalar[node.input[1]], known.types[node.input[0]]


def _slice(known: _Known, node: onnx.NodeProto) -> Found:
    sizes = known.numbers(node.input[0])
    rest = [known.constants(name) for name in node.input[1:3]]
    steps = known.constants(node.input[4]) if len(node.input) > 4 and node.input[4] else [1]
    if sizes is None or any(r is None or len(r) != 1 for r in rest) or steps != [1]:
        return None
    start, end = (part[0] for part in rest if part is not None)
    return sizes[start:end], False, known.types[node.input[0]]


def _concat(known: _Known, node: onnx.NodeProto) -> Found:
    parts = [known.numbers(name) for name in node.input]
    if any(part is None or known.is_scalar[n] for part, n in zip(parts, node.input, strict=True)):
        return None
    joined = [size for part in parts if part is not None for size in part]
    return joined, False, known.types[node.input[0]]


def _unsqueeze(known: _Known, node: onnx.NodeProto) -> Found:
    sizes, axes = known.numbers(node.input[0]), known.constants(node.input[1])
    if sizes is None or axes not in ([0], [-1]) or not known.is_scalar[node.input[0]]:
        return None
    return sizes, False, known.types[node.input[0]]


def _squeeze(known: _Known, node: onnx.NodeProto) -> Found:
    sizes = known.numbers(node.input[0])
    if sizes is None or len(sizes) != 1 or known.is_scalar[node.input[0]]:
        return None
    return sizes, True, known.types[node.input[0]]


def _cast(known: _Known, node: onnx.NodeProto) -> Found:
    sizes = known.numbers(node.input[0])
    goal = attributes_of(node)["to"]
    types = {onnx.TensorProto.INT64: np.int64, onnx.TensorProto.INT32: np.int32}
    if sizes is None or goal not in types:
        return None
    return sizes, known.is_scalar[node.input[0]], types[goal]


def _identity(known: _Known, node: onnx.NodeProto) -> Found:
    sizes = known.numbers(node.input[0])
    if sizes is None:
        return None
    return sizes, known.is_scalar[node.input[0]], known.types[node.input[0]]


def _arithmetic(compute: Callable[[int, int], int | None]) -> Rule:
    def rule(known: _Known, node: onnx.NodeProto) -> Found:
        parts: Sequence[Sizes | None] = [known.numbers(name) for name in node.input]
        first, second = parts
        if first is None or second is None or 1 < len(first) != len(second) > 1:
            return None
        if not first or not second:
            return None
        length = max(len(first), len(second))
        pairs = zip(first * (length // len(first)), second * (length // len(second)), strict=True)
        sizes = [None if a is None or b is None else compute(a, b) for a, b in pairs]
        is_scalar = all(known.is_scalar[name] for name in node.input)
        return sizes, is_scalar, known.types[node.input[0]]

    return rule


def _quotient(a: int, b: int) -> int | None:
    return a // b if a >= 0 and b > 0 else None


_RULES: Mapping[str, Rule] = {
    "Add": _arithmetic(lambda a, b: a + b),
    "Cast": _cast,
    "Concat": _concat,
    "Div": _arithmetic(_quotient),
    "Gather": _gather,
    "Identity": _identity,
    "Mul": _arithmetic(lambda a, b: a * b),
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _arithmetic(lambda a, b: a - b),
    "Unsqueeze": _unsqueeze,
}
