"""Compiling networks for map engines: whole graphs with their branches, or chains one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_boards import Board
from trencadis_compiler.emit.formats import input_format, output_scales
from trencadis_compiler.errors import CompileError, Unsupported
from trencadis_compiler.exact.ranges import reachable_sums
from trencadis_compiler.fit import Fitted
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.ir.network import Value
from trencadis_compiler.maps.cycles import arrival_cycles, layer_cycles
from trencadis_compiler.maps.emit import assemble_maps, output_rows
from trencadis_compiler.maps.lower import BOUNDS, lower_chain
from trencadis_compiler.maps.network import MapNetwork, MapValue
from trencadis_compiler.maps.place import MapPlacement, place_maps
from trencadis_compiler.maps.play import play
from trencadis_compiler.maps.report import map_report
from trencadis_compiler.passes.build_network import build_network, source_tensor
from trencadis_compiler.passes.grow_chains import Chain
from trencadis_format.config import CoreConfig, KernelConfig
from trencadis_format.map_config import MAP_LIMITS, MapConfig
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import MapFormat, OutputFormat
from trencadis_format.tensors import pack_inputs

__all__ = [
    "CompiledMaps",
    "compile_map_chains",
    "compile_maps",
    "map_kernel",
    "sized_board",
    "whole_chain",
]

RELU_DENSITY = 0.5
"""Part of a map's values that is taken to be other than zero where the smallest key is zero's."""

PLAYED = 2
"""Inputs that layers are played on."""

SMALL = MapConfig(lanes=8, tiles=8, kernels_per_tile=8, row_values=16)
"""The engine of a kernel that is sized for a network; its memories grow."""


@dataclass(frozen=True)
class CompiledMaps:
    """A segment for a map engine, and what it was compiled from."""

    overlay: Overlay
    network: MapNetwork
    placement: MapPlacement
    cycles: float
    dense_cycles: float
    maps: tuple[MapFormat, ...]

    @property
    def placements(self) -> tuple[MapPlacement, ...]:
        """Its one placement."""
        return (self.placement,)

    @property
    def latency_cycles(self) -> float:
        """Cycles of an inference alone: a core works on one."""
        return self.cycles

    @property
    def report(self) -> Mapping[str, Any]:
        """Report about it; JSON-ready."""
        return self.overlay.report


def whole_chain(graph: Graph, chains: Mapping[str, Chain], final: frozenset[str]) -> Chain | None:
    """The ends of the part of a graph before its final operators, if it has one input and one end.

    Parameters
    ----------
    graph : Graph
        Graph as the model has it.
    chains : mapping of str to Chain
        Those that outputs depend on, by the tensor that they make.
    final : set of str
        Operators that may come after all layers.
    """
    if len(graph.inputs) != 1 or not chains:
        return None
    ends: set[str] = set()
    wanted = [info.name for info in graph.outputs]
    while wanted:
        name = wanted.pop()
        if name in chains:
            ends.add(name)
            continue
        node = graph.producer(name)
        if name in graph.constants or not name:
            continue
        if node is None or node.op_type not in final:
            return None
        if node.op_type == "QuantizeLinear" and _branches(graph, node.inputs[0]):
            ends.add(name)
            continue
        wanted.extend(node.inputs)
    source = graph.inputs[0].name
    firsts = [chain for chain in chains.values() if source_tensor(chain.maps) == source]
    if len(ends) != 1 or not firsts:
        return None
    # Only its ends count: the tensor that it reads, and the one that it makes.
    first = firsts[0].maps[0]
    return Chain((first, replace(first, tensor=ends.pop())))


def _branches(graph: Graph, tensor: str) -> bool:
    """Tell whether a float tensor is, but for bounds, what a node makes of several maps."""
    node = graph.producer(tensor)
    while node is not None and node.op_type in BOUNDS:
        node = graph.producer(node.inputs[0])
    return node is not None and node.op_type in ("Add", "Concat")


def sized_board(board: Board, network: MapNetwork) -> Board:
    """A board with a kernel whose small map engine holds a network.

    Raises
    ------
    CompileError
        If no engine is as large.
    """
    kernel = map_kernel(board.kernel, place_maps(network, SMALL))
    return replace(board, kernel=kernel, name=f"{board.name}-maps-{kernel.digest:016x}")


def map_kernel(base: KernelConfig, placement: MapPlacement) -> KernelConfig:
    """A kernel whose map engine holds a network.

    Raises
    ------
    CompileError
        If no engine is as large.
    """
    config = placement.config
    needs = {
        "map_rows": placement.map_rows,
        "weight_rows": placement.weight_rows,
        "requantise_rows": placement.requantise_rows,
        "tables": placement.tables,
        "layers": len(placement.network.steps),
        "sum_bits": _sum_bits(placement.network),
    }
    sizes = {name: max(getattr(config, name), need) for name, need in needs.items()}
    for name, size in sizes.items():
        if size > MAP_LIMITS[name].high:
            raise CompileError(
                f"{placement.network.name!r} takes {size} {name} of a map engine; engines have "
                f"{MAP_LIMITS[name].high} at most"
            )
    return replace(base, core=CoreConfig(map=replace(config, **sizes)))


def _sum_bits(network: MapNetwork) -> int:
    """Bits that hold every sum of a network."""
    reach = 1
    for step in network.steps:
        if step.layer is not None:
            least, most = reachable_sums(step.layer, None)
            reach = max(reach, int(most.max(initial=0)) + 1, -int(least.min(initial=0)))
    return (reach - 1).bit_length() + 1


def compile_maps(
    network: MapNetwork,
    board: Board,
    *,
    profile: npt.NDArray[Any] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> CompiledMaps:
    """Compile a network for a board with a map engine.

    Parameters
    ----------
    network : MapNetwork
        The network.
    board : Board
        Target board.
    profile : array, optional
        Inputs of the model, to predict cycles with; of many, the first ones.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    CompileError
        If it does not fit, or cannot be exact.
    """
    config = board.kernel.core.map
    assert config is not None, "the board has a map engine"
    progress("placing maps")
    placement = place_maps(network, config)
    placement.check()
    progress("assembling the image")
    image = assemble_maps(placement, board.kernel)
    density = _densities(network)
    edges = arrival_cycles(placement, board.kernel.bus_bytes)
    layers = layer_cycles(placement, density)
    dense = sum(layer.cycles for layer in layer_cycles(placement, {})) + edges
    overlay = Overlay(
        name=network.name,
        kernel=board.kernel,
        image=image,
        input=input_format(_plain(network.input)),
        output=_output_format(placement, board.kernel),
        report={},
    )
    if profile is not None:
        progress("playing the layers on the data")
        played = play(placement, overlay, pack_inputs(overlay, profile[:PLAYED]))
        density = dict(played.density)
        layers = tuple(
            replace(layer, played=cycles)
            for layer, cycles in zip(layer_cycles(placement, density), played.cycles, strict=True)
        )
    cycles = sum(layer.cycles for layer in layers) + edges
    report = map_report(
        placement, layers, edges, board, len(image), density, played=profile is not None
    )
    overlay = replace(overlay, report=report)
    return CompiledMaps(overlay, network, placement, cycles, dense, _inner_maps(network))


def compile_map_chains(
    graph: Graph,
    chains: Mapping[str, Chain],
    board: Board,
    progress: Callable[[str], None],
) -> Fitted[CompiledMaps]:
    """Every chain as a segment of its own; why others are not, by the node that begins them."""
    made: dict[str, CompiledMaps] = {}
    reasons: dict[str, Unsupported] = {}
    for tensor, chain in chains.items():
        try:
            network = lower_chain(build_network(graph.name, chain.maps))
            made[tensor] = compile_maps(network, board, progress=progress)
        except CompileError as error:
            draft = chain.maps[0].draft
            assert draft is not None
            reasons[draft.name] = Unsupported(f"{draft.name!r}", str(error))
    return Fitted({tensor: chains[tensor] for tensor in made}, made, reasons)


def _densities(network: MapNetwork) -> dict[str, float]:
    """Assumed density of maps that end at zero: about half of their values."""
    found = {}
    for step in network.steps:
        quantisation = network.values[step.target].quantisation
        if quantisation is None:
            continue
        low = step.layer.low if step.layer is not None else 0
        low = step.add["low"] if step.add is not None else low
        if (max(low, 0) == quantisation.zero_key and step.layer is not None) or (
            step.add is not None and low == quantisation.zero_key
        ):
            found[step.target] = RELU_DENSITY
    return found


def _inner_maps(network: MapNetwork) -> tuple[MapFormat, ...]:
    """Maps made by all steps but the last, in order; those that equal no tensor have no name."""
    found = []
    for step in network.steps[:-1]:
        value = network.values[step.target]
        known = value.quantisation
        assert known is not None, "steps read keys"
        same = value.name == value.tensor.name
        # Of a tensor of integers, these are what its numbers are.
        integer = value.tensor.dtype in ("int8", "uint8")
        found.append(
            MapFormat(
                name=value.name if same else "",
                shape=value.tensor.shape if same else (None, *value.shape),
                axes=value.axes if same else "CHW",
                scale=1.0 if integer else float(known.scale),
                zero_key=known.key_offset if integer else known.zero_key,
            )
        )
    return tuple(found)


def _plain(value: MapValue) -> Value:
    return Value(value.name, value.shape, value.quantisation, value.tensor, value.axes)


def _output_format(placement: MapPlacement, kernel: KernelConfig) -> OutputFormat:
    """Format by which the host reads the rows of the output map."""
    network = placement.network
    value, address = network.output, placement.addresses[network.target]
    # A concatenation is the target of no step.
    last = next((step for step in network.steps if step.target == network.target), None)
    raw = last is not None and last.raw
    row_values = placement.config.row_values
    _, count = output_rows(placement)
    piece = min(row_values, kernel.bus_bytes)
    channels, rows, columns = value.shape
    places = np.arange(channels) if raw else address.places
    quantisation = value.quantisation
    form = OutputFormat(
        name=value.tensor.name,
        dtype=value.tensor.dtype,
        shape=value.tensor.shape,
        axes=value.axes,
        channels=channels,
        rows=rows,
        columns=columns,
        piece_bytes=piece,
        pieces=count * row_values // piece,
        places=address.rows * row_values // (4 if raw else 1),
        order=tuple(int(place) for place in places),
        raw=raw,
        integer=quantisation is not None and value.tensor.dtype in ("int8", "uint8"),
        scales=() if quantisation is None else (float(quantisation.scale),),
        offsets=(),
        zero_key=0 if quantisation is None else quantisation.zero_key,
        key_offset=0 if quantisation is None else quantisation.key_offset,
    )
    if raw and last is not None and last.layer is not None:
        form = replace(form, **vars(output_scales(last.layer)))
    return form
