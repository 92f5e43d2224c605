"""From chains of layers and the nodes between them to a network of a map engine.

Requires: the chains of `grow_chains`, and the graph as the model has it.
Ensures: steps in order; every map is made before it is read. Additions, concatenations and pools
that chains leave out are steps of their own; what a map engine cannot do either is refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from trencadis_compiler.errors import Unsupported
from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.ir.network import Layer, Quantisation, TensorInfo
from trencadis_compiler.ir.network import Network as ChainNetwork
from trencadis_compiler.maps.add import add_parameters
from trencadis_compiler.maps.network import MapNetwork, MapStep, MapValue, Window
from trencadis_compiler.passes.base.shapes import padding, window
from trencadis_compiler.passes.build_network import build_network
from trencadis_compiler.passes.grow_chains import Chain
from trencadis_format.models.requantise_parameters import InexactError

__all__ = ["BOUNDS", "lower_chain", "lower_graph"]

BOUNDS = ("Relu", "Clip")


def lower_chain(network: ChainNetwork) -> MapNetwork:
    """The steps of a chain by itself.

    Raises
    ------
    Unsupported
        If a layer asks for more than a map engine has.
    """
    values = {value.name: _value_of(network, value.name) for value in network.values}
    steps: list[MapStep] = []
    for layer in network.layers:
        _add_layer(steps, values, layer)
    return MapNetwork(network.name, values, tuple(steps), network.input.name, network.output.name)


def lower_graph(graph: Graph, chains: Mapping[str, Chain], target: str) -> MapNetwork:
    """The steps that make a tensor from the model's input.

    Parameters
    ----------
    graph : Graph
        The graph as the model has it.
    chains : mapping of str to Chain
        Chains by the tensor that they make.
    target : str
        The tensor.

    Raises
    ------
    Unsupported
        If a node between the chains is one that a map engine cannot do.
    """
    lowering = _Lowering(graph, chains)
    made = lowering.value(target)
    if len(lowering.inputs) != 1:
        raise Unsupported(f"{graph.name!r}", f"it has {len(lowering.inputs)} inputs")
    steps = _fused(lowering.steps, lowering.values, made)
    return MapNetwork(graph.name, lowering.values, steps, lowering.inputs[0], made)


def _value_of(network: ChainNetwork, name: str) -> MapValue:
    value = network.value(name)
    return MapValue(value.name, value.shape, value.quantisation, value.tensor, value.axes)


def _add_layer(steps: list[MapStep], values: dict[str, MapValue], layer: Layer) -> None:
    """The steps of a layer: pooling is one by itself, after requantisation."""
    if layer.winners is not None:
        raise Unsupported(f"layer {layer.name!r}", "map engines have no k-WTA")
    pool = layer.pool
    if pool.kernel == (1, 1) and pool.stride == (1, 1):
        plain = replace(layer, table=None)
        steps.append(
            MapStep(layer.name, layer.source, layer.target, layer=plain, table=layer.table)
        )
        return
    if layer.requantised is None:
        raise Unsupported(f"layer {layer.name!r}", "map engines do not pool sums")
    inner = f"{layer.target} before pooling"
    made = values[layer.target]
    unpooled = replace(layer, target=inner, table=None, pool=type(pool)(), output=layer.requantised)
    values[inner] = replace(
        made, name=inner, shape=unpooled.out_shape, quantisation=layer.requantised
    )
    steps.append(MapStep(layer.name, layer.source, inner, layer=unpooled))
    steps.append(
        MapStep(
            f"{layer.name} pooling",
            inner,
            layer.target,
            window=Window(pool.kernel, pool.stride),
            table=layer.table,
        )
    )


class _Lowering:
    def __init__(self, graph: Graph, chains: Mapping[str, Chain]) -> None:
        self._graph = graph
        self._chains = chains
        self.values: dict[str, MapValue] = {}
        self.steps: list[MapStep] = []
        self.inputs: list[str] = []
        self._known: dict[str, str] = {}

    def value(self, tensor: str) -> str:
        """The map that a tensor equals; steps that make it are added."""
        if tensor not in self._known:
            self._known[tensor] = self._make(tensor)
        return self._known[tensor]

    def _make(self, tensor: str) -> str:
        chain = self._chains.get(tensor)
        if chain is not None:
            return self._chain(chain)
        node = self._graph.producer(tensor)
        if node is None:
            raise Unsupported(f"tensor {tensor!r}", "no layer reads it as it comes from outside")
        if node.op_type in ("DequantizeLinear", "Identity"):
            return self._dequantised(node)
        if node.op_type == "MaxPool":
            return self._pool(node)
        if node.op_type == "Concat":
            # Without a quantiser after it, its parts have one scale.
            out = self.values[self.value(node.inputs[0])].quantisation
            if out is None:
                raise Unsupported(node, "it joins sums that are not quantised")
            return self._concat(node, tensor, out, 0, 255)
        if node.op_type == "QuantizeLinear":
            return self._quantised(node)
        raise Unsupported(node, "map engines have no such operator")

    def _chain(self, chain: Chain) -> str:
        network = build_network(self._graph.name, chain.maps)
        source = network.input
        if source.name in {info.name for info in self._graph.inputs}:
            if source.name not in self.inputs:
                self.inputs.append(source.name)
                self.values[source.name] = _value_of(network, source.name)
                self._known[source.name] = source.name
            elif self.values[source.name].quantisation != source.quantisation:
                raise Unsupported(f"input {source.name!r}", "it is quantised in two ways")
        made = self.value(source.name)
        known = self.values[made]
        if (known.shape, known.quantisation) != (source.shape, source.quantisation):
            raise Unsupported(f"tensor {source.name!r}", "it is read as another map than it is")
        for value in network.values[1:]:
            self.values[value.name] = _value_of(network, value.name)
        for layer in network.layers:
            if layer.source == source.name:
                layer = replace(layer, source=made)
            _add_layer(self.steps, self.values, layer)
        return network.output.name

    def _dequantised(self, node: Node) -> str:
        name = self.value(node.inputs[0])
        if node.op_type == "DequantizeLinear":
            known = self.values[name].quantisation
            if known is None or self._quantisation(node) != (
                known.exact_scale,
                known.zero_key,
            ):
                raise Unsupported(node, "it reads a map by another scale than it has")
        return name

    def _quantisation(self, node: Node) -> tuple[Fraction, int]:
        """Scale, and key of zero, of a QuantizeLinear or DequantizeLinear."""
        scale = self._graph.constant(node.inputs[1])
        zero = np.zeros((), np.uint8)
        if len(node.inputs) > 2 and node.inputs[2]:
            found = self._graph.constant(node.inputs[2])
            zero = zero if found is None else found
        if scale is None or scale.size != 1 or zero.size != 1 or zero.dtype.itemsize != 1:
            raise Unsupported(node, "its scale and zero point must be one constant each, of a byte")
        offset = 128 if zero.dtype == np.int8 else 0
        return Fraction(float(scale.reshape(-1)[0])), int(zero.reshape(-1)[0]) + offset

    def _quantised(self, node: Node) -> str:
        """Steps of what ends in a QuantizeLinear: an addition, a concatenation, bounds."""
        scale, zero_key = self._quantisation(node)
        found = next(map(self._graph.constant, node.inputs[2:]), None)
        signed = found is not None and found.dtype == np.int8
        out = Quantisation(np.float32(float(scale)), zero_key - 128 * signed, signed)
        low, high, tensor = 0, 255, node.inputs[0]
        before = self._graph.producer(tensor)
        while before is not None and before.op_type in BOUNDS:
            low, high = self._bounds(before, out, low, high)
            tensor = before.inputs[0]
            before = self._graph.producer(tensor)
        if before is not None and before.op_type == "Add":
            return self._add(before, node.outputs[0], out, low, high)
        if before is not None and before.op_type == "Concat":
            return self._concat(before, node.outputs[0], out, low, high)
        source = self.values[self.value(tensor)]
        return self._requantised(node, source, node.outputs[0], out, low, high)

    def _bounds(self, node: Node, out: Quantisation, low: int, high: int) -> tuple[int, int]:
        """Smallest and largest key after a Relu or Clip."""
        bounds: list[float | None] = [0.0, None]
        if node.op_type == "Clip":
            names = [*node.inputs[1:], "", ""][:2]
            arrays = [self._graph.constant(name) if name else None for name in names]
            if any(name and array is None for name, array in zip(names, arrays, strict=True)):
                raise Unsupported(node, "its bounds must be constant")
            bounds = [None if array is None else float(array.reshape(-1)[0]) for array in arrays]
        keys = [
            None
            if bound is None
            else min(max(round(Fraction(bound) / out.exact_scale) + out.zero_key, 0), 255)
            for bound in bounds
        ]
        low = low if keys[0] is None else max(low, keys[0])
        high = high if keys[1] is None else min(high, keys[1])
        if low > high:
            raise Unsupported(node, "its bounds leave no number")
        return low, high

    def _made(
        self, name: str, like: MapValue, out: Quantisation, parts: tuple[str, ...] = ()
    ) -> MapValue:
        producer = self._graph.producer(name)
        dtype = "int8" if out.signed else "uint8"
        if producer is None or producer.op_type != "QuantizeLinear":
            dtype = "float32"
        tensor = TensorInfo(name, like.tensor.shape, dtype)
        value = replace(like, name=name, quantisation=out, tensor=tensor, parts=parts)
        self.values[name] = value
        return value

    def _add(self, node: Node, name: str, out: Quantisation, low: int, high: int) -> str:
        first, second = (self.values[self.value(tensor)] for tensor in node.inputs)
        if first.shape != second.shape or first.axes != second.axes:
            raise Unsupported(node, "it adds maps of different shapes")
        _check_plain(node, first)
        _check_plain(node, second)
        if first.quantisation is None or second.quantisation is None:
            raise Unsupported(node, "it adds sums that are not quantised")
        try:
            add = add_parameters(first.quantisation, second.quantisation, out, low, high)
        except InexactError as error:
            raise Unsupported(node, str(error)) from error
        self._made(name, first, out)
        self.steps.append(MapStep(node.name, first.name, name, second=second.name, add=add))
        return name

    def _requantised(
        self, node: Node, source: MapValue, name: str, out: Quantisation, low: int, high: int
    ) -> str:
        """A map by another scale, or within bounds: a table."""
        table = _table(node, source, out, low, high)
        if np.array_equal(table, np.arange(256)) and source.quantisation == out:
            return source.name
        _check_plain(node, source)
        self._made(name, source, out)
        self.steps.append(MapStep(node.name, source.name, name, table=table))
        return name

    def _concat(self, node: Node, name: str, out: Quantisation, low: int, high: int) -> str:
        sources = [self.values[self.value(tensor)] for tensor in node.inputs]
        first = sources[0]
        axis = int(node.attributes.get("axis", 0))
        if first.axes[: len(first.tensor.shape) - 1].find("C") + 1 != axis % len(
            first.tensor.shape
        ) or any(s.shape[1:] != first.shape[1:] or s.axes != first.axes for s in sources):
            raise Unsupported(node, "map engines concatenate channels of maps of one size")
        # Those that are concatenations themselves are joined part by part.
        leaves = [self.values[p] for source in sources for p in source.parts or (source.name,)]
        parts = []
        taken = {part for value in self.values.values() for part in value.parts}
        for number, source in enumerate(leaves):
            table = _table(node, source, out, low, high)
            same = np.array_equal(table, np.arange(256))
            if same and source.name not in {*taken, *self.inputs, *parts}:
                parts.append(source.name)
                continue
            part = f"{name} part {number}"
            self.values[part] = replace(source, name=part, quantisation=out, parts=())
            table_or_none = None if np.array_equal(table, np.arange(256)) else table
            self.steps.append(
                MapStep(f"{node.name}:{number}", source.name, part, table=table_or_none)
            )
            parts.append(part)
        channels = sum(source.shape[0] for source in sources)
        shape = (channels, *first.shape[1:])
        sizes = [first.tensor.shape[0], *first.tensor.shape[1:]]
        sizes[axis] = channels
        like = replace(first, shape=shape, tensor=TensorInfo(name, tuple(sizes), "int8"))
        self._made(name, like, out, tuple(parts))
        return name

    def _pool(self, node: Node) -> str:
        source = self.values[self.value(node.inputs[0])]
        _check_plain(node, source)
        if source.quantisation is None or "kernel_shape" not in node.attributes:
            raise Unsupported(node, "it pools sums that are not quantised")
        if any(node.outputs[1:]):
            raise Unsupported(node, "only its first output may be used")
        flat = len(source.axes) == 2
        if source.axes != ("CW" if flat else "CHW") or node.attributes.get("ceil_mode", 0):
            raise Unsupported(node, "map engines pool maps with channels first, without ceil_mode")
        kernel = window(node, "kernel_shape", flat)
        stride = window(node, "strides", flat)
        dilation = window(node, "dilations", flat)
        size = source.shape[1:]
        pads = padding(node, size, kernel, stride, dilation, flat)
        rows, columns = (
            (one + before + after - step * (wide - 1) - 1) // down + 1
            for one, before, after, step, wide, down in zip(
                size, pads[:2], pads[2:], dilation, kernel, stride, strict=True
            )
        )
        name = node.outputs[0]
        made = self._made(name, source, source.quantisation)
        sizes = (rows, columns)[-(len(source.axes) - 1) :]
        dtype = made.tensor.dtype
        if source.tensor.name == node.inputs[0]:
            dtype = source.tensor.dtype
        tensor = TensorInfo(name, (made.tensor.shape[0], source.shape[0], *sizes), dtype)
        shape = (source.shape[0], rows, columns)
        self.values[name] = replace(made, shape=shape, tensor=tensor)
        self.steps.append(
            MapStep(node.name, source.name, name, window=Window(kernel, stride, dilation, pads))
        )
        return name


def _check_plain(node: Node, source: MapValue) -> None:
    """Refuse a concatenation where rows are moved: its parts fill up rows, its copy would not."""
    if source.parts:
        raise Unsupported(node, "map engines multiply what they concatenate, and do not move it")


def _table(
    node: Node, source: MapValue, out: Quantisation, low: int, high: int
) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Keys of the numbers that the keys of a map stand for, rounded half to even."""
    known = source.quantisation
    if known is None:
        raise Unsupported(node, "it reads sums that are not quantised")
    ratio = known.exact_scale / out.exact_scale
    keys = [round(ratio * (key - known.zero_key)) + out.zero_key for key in range(256)]
    return np.array([min(max(key, low), high) for key in keys], np.uint8)


def _fused(
    steps: list[MapStep], values: Mapping[str, MapValue], target: str
) -> tuple[MapStep, ...]:
    """Additions joined with the step that makes one of their maps, if nobody else reads it."""
    found = list(steps)
    held = {target, *(part for value in values.values() for part in value.parts)}
    for step in steps:
        if not step.second:
            continue
        for own, other in ((step.source, step.second), (step.second, step.source)):
            readers = [s for s in found if own in (s.source, s.second)]
            maker = next((s for s in found if s.target == own), None)
            alone = len(readers) == 1 and own != other and own not in held
            if maker is None or not alone or maker.second or maker.table is not None or maker.raw:
                continue
            assert step.add is not None
            add = dict(step.add)
            if own == step.second:
                add["first"], add["second"] = add["second"], add["first"]
            joined = replace(maker, target=step.target, second=other, add=add, table=step.table)
            found[found.index(step)] = joined
            found.remove(maker)
            break
    return tuple(found)
