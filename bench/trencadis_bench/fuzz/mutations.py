"""Networks that are slightly wrong, or slightly unusual: refused, or still equal."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["mutate"]

Mutation = Callable[[onnx.GraphProto, np.random.Generator], None]

ATTRIBUTES: dict[str, dict[str, tuple[Any, ...]]] = {
    "AveragePool": {"ceil_mode": (1,), "count_include_pad": (0, 1), "auto_pad": ("SAME_UPPER",)},
    "BatchNormalization": {"training_mode": (1,), "epsilon": (0.5, 0.0), "momentum": (0.1,)},
    "Cast": {"to": (1, 3, 6, 7, 9, 10, 11)},
    "Conv": {
        "dilations": ([2, 2], [1, 1], [2]),
        "group": (2, 3),
        "auto_pad": ("VALID", "NOTSET"),
        "pads": ([0, 0, 2, 0], [1, 0, 0, 1], [-1, 0, 0, 0], [0, 3]),
    },
    "DequantizeLinear": {"axis": (0, 1, -1, 2, 5), "block_size": (1, 2), "output_dtype": (1, 10)},
    "Flatten": {"axis": (0, 2, -1)},
    "Gather": {"axis": (0, 1, 2, -1)},
    "Gemm": {"transA": (1,), "transB": (0, 1), "alpha": (0.0, -1.0, 3.0), "beta": (0.0, -2.0)},
    "LeakyRelu": {"alpha": (-0.5, 0.0, 2.0)},
    "MaxPool": {
        "ceil_mode": (1,),
        "dilations": ([2, 2], [2]),
        "pads": ([1, 1, 1, 1], [1, 1]),
        "storage_order": (1,),
        "auto_pad": ("SAME_LOWER",),
    },
    "QuantizeLinear": {
        "axis": (0, 1, -1, 3),
        "output_dtype": (2, 3, 4, 5, 21, 22),
        "saturate": (0,),
        "block_size": (1, 2),
        "precision": (1,),
    },
    "ReduceMean": {"keepdims": (0, 1), "axes": ([1], [2], [0, 2, 3]), "noop_with_empty_axes": (1,)},
    "Reshape": {"allowzero": (1,)},
    "ScatterElements": {"reduction": ("add", "mul", "max", "min"), "axis": (0, 1, -1)},
    "TopK": {"largest": (0,), "sorted": (0,), "axis": (0, 1, 2, -1)},
    "Transpose": {"perm": ([0, 2, 1, 3], [1, 0, 2, 3], [0, 1, 2, 3], [0, 2, 1])},
}
"""Values that attributes are set to; many of them mean another function."""


def mutate(model: onnx.ModelProto, rng: np.random.Generator) -> str:
    """Change a model a little; returns what was done."""
    kind, mutation = list(_MUTATIONS.items())[int(rng.integers(len(_MUTATIONS)))]
    if kind == "opset":
        model.opset_import[0].version = int(rng.choice([7, 9, 10, 11, 12, 13, 17, 18, 21, 22, 23]))
    else:
        mutation(model.graph, rng)
    return kind


def _pick(things: Any, rng: np.random.Generator) -> Any:
    return things[int(rng.integers(len(things)))] if len(things) else None


def _attribute(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    node = _pick([node for node in graph.node if node.op_type in ATTRIBUTES], rng)
    if node is None:
        return
    choices = ATTRIBUTES[node.op_type]
    name = str(rng.choice(sorted(choices)))
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, _pick(choices[name], rng))])


def _drop_attribute(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    node = _pick([node for node in graph.node if node.attribute], rng)
    if node is not None:
        del node.attribute[int(rng.integers(len(node.attribute)))]


def _constant_type(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    tensor = _pick(graph.initializer, rng)
    if tensor is None:
        return
    types = ["int8", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64", "int64"]
    array = numpy_helper.to_array(tensor)
    with np.errstate(all="ignore"):
        changed = array.astype(str(rng.choice(types)))
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _constant_value(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    tensor = _pick(graph.initializer, rng)
    if tensor is None:
        return
    array = np.array(numpy_helper.to_array(tensor))
    if not array.size:
        return
    special: list[Any] = [0, 1, -1, 127, -128]
    if array.dtype.kind == "f":
        special += [np.nan, np.inf, -np.inf, 1e-40, 1e38, 2.0**-30]
    with np.errstate(all="ignore"):
        value = np.asarray(_pick(special, rng)).astype(array.dtype)
    if rng.random() < 0.5:
        array.flat[int(rng.integers(array.size))] = value
    else:
        array[...] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _constant_shape(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    tensor = _pick(graph.initializer, rng)
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor)
    forms = [
        array[None],
        array[..., None],
        array.reshape(-1),
        array.reshape(-1)[:1],
        np.concatenate([array.reshape(-1), array.reshape(-1)[:1]]),
    ]
    if array.size == 1:
        forms.append(array.reshape(()))
    if array.ndim > 1:
        forms.append(np.moveaxis(array, 0, -1))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(_pick(forms, rng)), tensor.name))


def _rewire(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """One input becomes another tensor, of any kind."""
    node = _pick([node for node in graph.node if node.input], rng)
    names = [*(info.name for info in graph.input), *(t.name for t in graph.initializer)]
    names += [name for other in graph.node for name in other.output]
    node.input[int(rng.integers(len(node.input)))] = _pick(names, rng)


def _drop_input(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    node = _pick([node for node in graph.node if node.input], rng)
    position = int(rng.integers(len(node.input)))
    if rng.random() < 0.5:
        node.input[position] = ""
    else:
        del node.input[position]


def _insert(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """A node between two others."""
    number = int(rng.integers(len(graph.node)))
    node = graph.node[number]
    if not node.input:
        return
    position = int(rng.integers(len(node.input)))
    kinds: dict[str, dict[str, Any]] = {
        "Abs": {},
        "Cast": {"to": int(rng.choice([1, 3, 6, 7, 10, 11]))},
        "Dropout": {},
        "Identity": {},
        "Neg": {},
        "Relu": {},
        "Softmax": {},
        "Transpose": {},
        "Floor": {},
        "HardSigmoid": {},
        "Elu": {},
        "Exp": {},
        "Sigmoid": {},
        "Round": {},
        "Sign": {},
        "Tanh": {},
        "HardSwish": {},
        "Softplus": {},
        "Sqrt": {},
        "Squeeze": {},
    }
    kind = str(rng.choice(sorted(kinds)))
    made = helper.make_node(kind, [node.input[position]], [f"inserted{number}"], **kinds[kind])
    node.input[position] = made.output[0]
    graph.node.insert(number, made)


def _remove(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """A node's readers read its first input instead."""
    node = _pick([node for node in graph.node if node.input], rng)
    for other in graph.node:
        for position, name in enumerate(other.input):
            if name in node.output:
                other.input[position] = node.input[0]
    for info in graph.output:
        if info.name in node.output:
            info.name = node.input[0]
    graph.node.remove(node)


def _declared(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """The input or output is declared otherwise."""
    info = _pick(graph.input if rng.random() < 0.5 else graph.output, rng)
    tensor = info.type.tensor_type
    if rng.random() < 0.4:
        tensor.elem_type = int(rng.choice([1, 2, 3, 5, 6, 7, 9, 10, 11]))
        return
    if not tensor.shape.dim:
        return
    dim = _pick(tensor.shape.dim, rng)
    dim.dim_value = int(rng.choice([0, 1, 2, 3, 5, 1 << 20]))


def _shuffle(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    nodes = list(graph.node)
    order = rng.permutation(len(nodes))
    del graph.node[:]
    graph.node.extend(nodes[i] for i in order)


def _rename(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """Two tensors of one name, or a node's name with odd characters."""
    if rng.random() < 0.5:
        node = _pick(graph.node, rng)
        names = [name for other in graph.node for name in other.output]
        node.output[0] = _pick([*names, graph.input[0].name], rng)
    else:
        node = _pick(graph.node, rng)
        node.name = str(_pick(["a\nb", "", "x" * 500, "\u2028", "a b/c", "0", "é"], rng))


def _second_output(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    names = [name for node in graph.node for name in node.output]
    graph.output.append(helper.make_tensor_value_info(_pick(names, rng), TensorProto.FLOAT, None))


_MUTATIONS: dict[str, Mutation] = {
    "attribute": _attribute,
    "attribute dropped": _drop_attribute,
    "attribute again": _attribute,
    "constant's type": _constant_type,
    "constant's value": _constant_value,
    "constant's shape": _constant_shape,
    "declared otherwise": _declared,
    "input dropped": _drop_input,
    "name": _rename,
    "node inserted": _insert,
    "node removed": _remove,
    "opset": _attribute,
    "order": _shuffle,
    "rewired": _rewire,
    "second output": _second_output,
}
