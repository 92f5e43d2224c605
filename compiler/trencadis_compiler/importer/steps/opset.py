"""Old operators rewritten as those of the standard form's opset."""

from collections.abc import Iterator

import onnx
import onnx.defs
import onnx.version_converter

from trencadis_compiler.importer.reading.draft import LARGE_TENSOR, Draft, described, subgraphs
from trencadis_compiler.importer.steps.old_operators import OLD_OPERATORS
from trencadis_compiler.importer.steps.shapes import infer_shapes

__all__ = ["BROADCAST_OPSET", "STANDARD_OPSET", "raise_opset"]

BROADCAST_OPSET = 7
"""Operators broadcast as they do today from here on; what is older is raised to it first."""

STANDARD_OPSET = 18
"""Opset to which older models are raised; newer ones stay what they are."""

IR_VERSION = 10
"""Version of the file format that goes with `STANDARD_OPSET`."""


def raise_opset(draft: Draft) -> None:
    """Rewrite every standard operator as one of `STANDARD_OPSET`, node by node.

    Nodes keep their outputs' names. Most operators have gained types only and stay as they are; the
    rest is converted by `onnx.version_converter`, given one node at a time, or by `OLD_OPERATORS`
    where it is wrong or does not know how.

    Raises
    ------
    CompileError
        If there is no opset, it is newer than the package `onnx` knows, or an operator cannot be
        converted.
    """
    opset = draft.opset
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise draft.refusal(
            f"opset {opset} is newer than {newest}, the newest that the installed package onnx "
            "knows; update it, or export the model for an older opset"
        )
    uses_standard = any(node.domain in ("", "ai.onnx") for node in draft.graph.node)
    if uses_standard and opset < 1:
        raise draft.refusal("the model does not say its opset; export it again")
    for goal in (BROADCAST_OPSET, STANDARD_OPSET):
        if uses_standard and draft.opset < goal:
            infer_shapes(draft)
            converter = _Converter(draft, draft.opset, goal)
            draft.set_nodes(list(converter.convert(draft.graph)))
            _set_versions(draft, goal)
    if draft.opset > opset and uses_standard:
        draft.notes.append(f"converted from opset {opset} to {draft.opset}")
    _set_versions(draft, max(opset, STANDARD_OPSET))


def _set_versions(draft: Draft, opset: int) -> None:
    model = draft.model
    others = [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    kept = [onnx.helper.make_opsetid("", opset)]
    kept += [onnx.helper.make_opsetid(entry.domain, entry.version) for entry in others]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = max(model.ir_version, IR_VERSION)
    _name_domain(model.graph)


def _name_domain(graph: onnx.GraphProto) -> None:
    """Give the standard domain its one name."""
    for node in graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
        for inner in subgraphs(node):
            _name_domain(inner)


class _Converter:
    """Converts nodes, those of subgraphs included."""

    def __init__(self, draft: Draft, opset: int, goal: int) -> None:
        self._draft = draft
        self._opset = opset
        self._goal = goal
        self._types = {
            value.name: value.type
            for value in (*draft.graph.input, *draft.graph.output, *draft.graph.value_info)
        }
        self._constants = draft.initialisers()

    def convert(self, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
        """The converted nodes of a graph."""
        for node in graph.node:
            for inner in subgraphs(node):
                nodes = list(_Inner(self, inner).convert(inner))
                del inner.node[:]
                inner.node.extend(nodes)
            if node.domain not in ("", "ai.onnx") or not self._changed(node):
                yield node
            else:
                yield from self._converted(node)

    def _changed(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node means something else, or nothing, in the standard opset."""
        try:
            old = onnx.defs.get_schema(node.op_type, self._opset, "")
        except onnx.defs.SchemaError as error:
            raise self._draft.refusal(
                f"{described(node)}: opset {self._opset} has no such operator; export the model "
                "again"
            ) from error
        given = max((i + 1 for i, name in enumerate(node.input) if name), default=0)
        if not old.min_input <= given <= old.max_input:
            raise self._draft.refusal(
                f"{described(node)}: it has {given} inputs; opset {self._opset} has it with "
                f"{old.min_input} to {old.max_input}: export the model again"
            )
        try:
            new = onnx.defs.get_schema(node.op_type, self._goal, "")
        except onnx.defs.SchemaError:
            return True
        if old.since_version == new.since_version:
            return False
        return node.op_type in OLD_OPERATORS or _signature(old) != _signature(new)

    def _converted(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        own = OLD_OPERATORS.get(node.op_type)
        if own is not None and self._opset >= BROADCAST_OPSET:
            nodes = own(self._draft, node, self._opset)
            if nodes is not None:
                return nodes
        return self._by_package(node)

    def _by_package(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A node converted by onnx's own converter, as a model of its own."""
        names = list(dict.fromkeys(name for name in node.input if name))
        constants = [
            self._constants[name]
            for name in names
            if name in self._constants and self._constants[name].ByteSize() <= LARGE_TENSOR
        ]
        inside = {tensor.name for tensor in constants}
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [self._info(name) for name in names if name not in inside],
            [self._info(name) for name in node.output if name],
            constants,
        )
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", self._opset)], ir_version=8
        )
        try:
            converted = onnx.version_converter.convert_version(model, self._goal)
        except Exception as error:  # the package's errors have no common base
            reason = " ".join(str(error).split())[:120]
            raise self._draft.refusal(
                f"{described(node)} of opset {self._opset} cannot be converted to "
                f"{self._goal} ({reason}); export the model for opset 13 or later"
            ) from error
        return self._taken_over(node, converted.graph)

    def _info(self, name: str) -> onnx.ValueInfoProto:
        value = onnx.ValueInfoProto(name=name)
        tensor = self._constants.get(name)
        if tensor is not None:
            return onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        if name in self._types:
            value.type.CopyFrom(self._types[name])
        else:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        return value

    def _taken_over(self, node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
        """Nodes that stand for one, with names of their own inside."""
        outer = {*node.input, *node.output, ""}
        prefix = next(name for name in node.output if name)
        renamed: dict[str, str] = {}

        def name_of(name: str) -> str:
            if name in outer:
                return name
            if name not in renamed:
                renamed[name] = self._draft.fresh(f"{prefix}_{name}")
            return renamed[name]

        for tensor in graph.initializer:
            if tensor.name not in outer:
                copy = self._draft.graph.initializer.add()
                copy.CopyFrom(tensor)
                copy.name = name_of(tensor.name)
        nodes = []
        for part in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(part)
            copy.input[:] = [name_of(name) for name in part.input]
            copy.output[:] = [name_of(name) for name in part.output]
            if part.op_type == node.op_type or len(graph.node) == 1:
                copy.name = node.name
            nodes.append(copy)
        return nodes


class _Inner(_Converter):
    """Converts the nodes of a subgraph, which sees the tensors around it."""

    def __init__(self, outer: _Converter, graph: onnx.GraphProto) -> None:
        self._draft = outer._draft
        self._opset = outer._opset
        self._goal = outer._goal
        known = (*graph.input, *graph.output, *graph.value_info)
        self._types = outer._types | {value.name: value.type for value in known}
        self._constants = outer._constants | {tensor.name: tensor for tensor in graph.initializer}


def _signature(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    """Attributes that a node of an operator may have, and what is taken where it has them not."""
    return (
        sorted(
            (name, str(entry.type), entry.required, entry.default_value.SerializeToString())
            for name, entry in schema.attributes.items()
        ),
        [(entry.name, str(entry.option)) for entry in schema.inputs],
        [(entry.name, str(entry.option)) for entry in schema.outputs],
        schema.deprecated,
    )
