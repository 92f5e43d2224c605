"""Pipeline from an operator graph to networks of layers: the passes, in order.

Each pass is a file whose docstring says what it requires and what it ensures.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.ir.network import Network, TensorInfo, Value
from trencadis_compiler.ir.verify import verify
from trencadis_compiler.passes.build_network import build_network
from trencadis_compiler.passes.drop_unused import drop_unused
from trencadis_compiler.passes.fuse_tables import fuse_tables
from trencadis_compiler.passes.grow_chains import Growth, grow_chains
from trencadis_compiler.passes.k_winners import find_k_winners
from trencadis_compiler.passes.refusal import refusal

__all__ = ["GRAPH_PASSES", "grow", "lower"]

GRAPH_PASSES: tuple[Callable[[Graph], Graph], ...] = (
    drop_unused,
    find_k_winners,
    fuse_tables,
)
"""Passes from graphs to graphs."""


def grow(graph: Graph, on_host: Collection[str] = ()) -> tuple[Graph, Growth]:
    """The graph as the overlay sees it, and the chains of layers in it."""
    for rewrite in GRAPH_PASSES:
        graph = rewrite(graph)
    return graph, grow_chains(graph, on_host)


def lower(graph: Graph) -> Network:
    """The network that a whole graph stands for: one chain from its input to its output.

    Raises
    ------
    CompileError
        Naming a node that no layer can do, and what would help.
    """
    seen, growth = grow(graph)
    if len(seen.inputs) != 1 or len(seen.outputs) != 1:
        raise CompileError(
            f"the model has {len(seen.inputs)} inputs and {len(seen.outputs)} outputs; the "
            "overlay runs models with one of each: split the model"
        )
    (output,) = seen.outputs
    chain = growth.chains.get(output.name)
    if growth.reasons:
        raise refusal(seen, growth)
    if chain is None:
        raise CompileError(
            f"output {output.name!r} does not come from a convolution or fully connected layer"
        )
    network = verify(build_network(graph.name, chain.maps))
    if network.input.name != seen.inputs[0].name:
        raise CompileError(
            f"{network.input.name!r} is read by several layers; the overlay runs chains of layers "
            "without branches"
        )
    return with_declared_output(network, output)


def with_declared_output(network: Network, declared: TensorInfo) -> Network:
    """The network with its output as the model declares it.

    Raises
    ------
    CompileError
        If the model declares another shape or type than it has.
    """
    made = network.output
    shape = (declared.shape[0] if declared.shape else None, *made.tensor.shape[1:])
    if len(shape) != len(declared.shape) or any(
        said not in (None, is_) for said, is_ in zip(declared.shape[1:], shape[1:], strict=True)
    ):
        raise CompileError(
            f"output {declared.name!r} is declared with shape {list(declared.shape)}, but has "
            f"{['N', *shape[1:]]}; export the model again"
        )
    # A wrong declaration, or a model of other real numbers: onnxruntime tells, on the host.
    if declared.dtype != made.tensor.dtype:
        raise CompileError(
            f"output {declared.name!r} is declared {declared.dtype}, which it is not; export the "
            "model again"
        )
    output: Value = replace(made, tensor=TensorInfo(declared.name, shape, declared.dtype))
    values = tuple(output if value is made else value for value in network.values)
    return replace(network, values=values)
