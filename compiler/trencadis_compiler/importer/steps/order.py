"""Every tensor made once, and before it is read."""

import heapq
from collections import Counter
from collections.abc import Iterator

import onnx

from trencadis_compiler.importer.reading.draft import Draft, described, reads, subgraphs

__all__ = ["check_domains", "check_names", "declare_domains", "sort_nodes"]

DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
"""Domains of operators that onnxruntime brings along."""


def declare_domains(draft: Draft) -> None:
    """Declare domains whose operators are used, as some files leave to the reader."""
    declared = {entry.domain for entry in draft.model.opset_import}
    for node in draft.graph.node:
        if node.domain not in ("", "ai.onnx", *declared):
            draft.model.opset_import.append(onnx.helper.make_opsetid(node.domain, 1))
            declared.add(node.domain)


def check_domains(draft: Draft) -> None:
    """Refuse operators that come with a library of their own.

    Raises
    ------
    CompileError
        If there is one.
    """
    for node in _all_nodes(draft.graph):
        if node.domain not in DOMAINS:
            raise draft.refusal(
                f"{described(node)} is an operator of domain {node.domain!r}, which is neither "
                "ONNX's nor onnxruntime's; export the model with standard operators"
            )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _all_nodes(inner)


def check_names(draft: Draft) -> None:
    """Refuse tensors of one name; constants that are also listed as inputs are no longer inputs.

    Raises
    ------
    CompileError
        If two tensors have one name, or an output is never made.
    """
    graph = draft.graph
    constants = [tensor.name for tensor in graph.initializer]
    constants += [entry.values.name for entry in graph.sparse_initializer]
    known = set(constants)
    listed = [i for i, value in enumerate(graph.input) if value.name in known]
    for number in reversed(listed):
        del graph.input[number]
    made = [value.name for value in graph.input] + constants
    made += [name for node in graph.node for name in node.output if name]
    for group, what in ((made, "tensors"), ([v.name for v in graph.output], "outputs")):
        twice = [name for name, count in Counter(group).items() if count > 1]
        if twice:
            raise draft.refusal(f"two {what} are named {twice[0]!r}; export the model again")
    for value in graph.output:
        if value.name not in made:
            raise draft.refusal(
                f"output {value.name!r} is not made by any node; export the model again"
            )


def sort_nodes(draft: Draft) -> None:
    """Put the nodes in an order in which each reads what is made before, as near theirs as it can.

    Raises
    ------
    CompileError
        If a node reads what nothing makes, or what depends on itself.
    """
    graph = draft.graph
    made = {value.name for value in graph.input}
    made |= {tensor.name for tensor in graph.initializer}
    made |= {entry.values.name for entry in graph.sparse_initializer}
    nodes = list(graph.node)
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    waits: list[int] = []
    followers: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        needed = set()
        for name in reads(node):
            if name in makers:
                needed.add(makers[name])
            elif name not in made:
                raise draft.refusal(
                    f"{described(node)} reads {name!r}, which nothing makes; export the model again"
                )
        waits.append(len(needed))
        for before in needed:
            followers.setdefault(before, []).append(number)
    if all(before < after for before, many in followers.items() for after in many):
        return
    draft.set_nodes(nodes[number] for number in _order(draft, waits, followers))
    draft.notes.append("nodes were out of order and have been sorted")


def _order(draft: Draft, waits: list[int], followers: dict[int, list[int]]) -> list[int]:
    ready = [number for number, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for after in followers.get(number, ()):
            waits[after] -= 1
            if not waits[after]:
                heapq.heappush(ready, after)
    if len(order) < len(waits):
        stuck = next(number for number, count in enumerate(waits) if count)
        raise draft.refusal(
            f"{described(draft.graph.node[stuck])} depends on its own output; export the model "
            "again"
        )
    return order
