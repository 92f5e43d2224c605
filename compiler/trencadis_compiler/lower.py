"""From an operator graph to a chain of layers on integers.

The graph is walked in order. A value is a constant, a quantised constant (weights, bias), or the
one activation map under way, which collects what happens to it until the next convolution:

    sums --(ReLU, max-pooling)--> quantise --(functions)--> keys --(max-pooling, k-WTA)--> next layer
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import CompileError
from trencadis_compiler.graph import K_WINNERS, Graph, Node
from trencadis_compiler.ir import Layer, Network, Pool, Quantisation, Winners
from trencadis_hw import abi

__all__ = ["SUPPORTED", "lower"]

Array = npt.NDArray[Any]

LARGEST_KEY = (1 << abi.KEY_BITS) - 1

AXES = {1: "C", 2: "CW", 3: "CHW"}
"""Axes of a map, behind the batch, by their number."""


@dataclass(frozen=True)
class _Quantised:
    """A dequantised constant: integers, and a scale for all or one for every index of `axis`."""

    integers: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float32]
    axis: int


@dataclass(frozen=True)
class _Function:
    """What activations go through between dequantising and quantising; never decreases."""

    name: str
    apply: Callable[[Fraction], Fraction]
    clips: bool
    """It only limits its argument, so that it may as well be applied to rounded numbers."""
    keeps: bool
    """It limits its argument to zero at most, which every quantisation has a key for."""


@dataclass(frozen=True)
class _Draft:
    """A layer under way: what is known of it so far."""

    name: str
    weights: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    bias: tuple[Fraction, ...]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    in_shape: tuple[int, int, int]
    input: Quantisation
    requantised: Quantisation | None = None
    table: tuple[int, ...] = tuple(range(LARGEST_KEY + 1))
    pool: Pool | None = None
    winners: Winners | None = None


@dataclass(frozen=True)
class _Map:
    """The activation map under way.

    `axes` has, for every axis of the tensor behind the batch, the letters of the map's axes that it
    is made of; `sizes` has their sizes. `quantisation` tells how keys are read; it is None for sums
    and for an input that is not quantised yet. `integer`: between quantising and dequantising.
    `functions` were applied since, and wait for the next quantisation.
    """

    axes: tuple[str, ...]
    sizes: dict[str, int]
    draft: _Draft | None = None
    quantisation: Quantisation | None = None
    integer: bool = False
    functions: tuple[_Function, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the tensor's axes behind the batch."""
        return tuple(math.prod(self.sizes[letter] for letter in axis) for axis in self.axes)

    @property
    def positions(self) -> int:
        """Positions of the map."""
        return self.sizes.get("H", 1) * self.sizes.get("W", 1)


_Value = Array | _Quantised | _Map


def lower(graph: Graph) -> Network:
    """The network a graph stands for.

    Raises
    ------
    CompileError
        Naming the node that no layer can do, and what would help.
    """
    return _Lowering(graph).run()


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._values: dict[str, _Value] = dict(graph.constants)
        self._layers: list[Layer] = []
        self._input_axes = ""
        self._taken: dict[str, Node] = {}

    def run(self) -> Network:
        """Walk the graph."""
        graph = self._graph
        unknown = [node for node in graph.nodes if node.op_type not in _HANDLERS]
        if unknown:
            names = ", ".join(str(node) for node in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise CompileError(
                f"unsupported operators: {names}{more}; the overlay runs {', '.join(SUPPORTED)} and "
                "k-WTA by TopK: remove the others, or apply them on the host"
            )
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise CompileError(
                f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; the "
                "overlay runs models with one of each: split the model"
            )
        info = graph.inputs[0]
        sizes = [size for size in info.shape[1:] if size is not None]
        if len(sizes) != len(info.shape) - 1 or len(sizes) not in AXES or min(sizes) < 1:
            raise CompileError(
                f"input {info.name!r} has shape {list(info.shape)}; it needs a batch axis and one to "
                "three axes of fixed size: export the model with fixed sizes"
            )
        self._values[info.name] = _fresh_map(sizes)
        for node in graph.nodes:
            for name in node.outputs[1:]:
                if name and graph.users(name):
                    raise CompileError(f"{node}: only its first output may be used")
            self._values[node.outputs[0]] = _HANDLERS[node.op_type](self, node)

        output = graph.outputs[0]
        result = self._values.get(output.name)
        if not isinstance(result, _Map) or result.draft is None:
            raise CompileError(
                f"output {output.name!r} does not come from a convolution or fully connected layer"
            )
        result = self._resolve(result, f"output {output.name!r}")
        self._close(result)
        return Network(
            name=graph.name,
            input=info,
            output=output,
            input_axes=self._input_axes,
            output_axes="".join(result.axes),
            output_integer=result.integer,
            layers=tuple(self._layers),
        )

    # --- operators --------------------------------------------------------------------------------

    def quantise(self, node: Node) -> _Value:
        """QuantizeLinear."""
        value = self._value(node, 0)
        scale, zero = self._scale_and_zero(node)
        if isinstance(value, np.ndarray):
            return _quantise_constant(value, scale, zero, int(node.attributes.get("axis", 1)))
        source = self._map(node)
        quantisation = self._activation_quantisation(node, scale, zero)
        if source.integer:
            raise CompileError(f"{node}: its input is quantised already")
        if source.quantisation is None:
            if source.draft is not None:
                for function in source.functions:
                    if not function.clips:
                        raise CompileError(
                            f"{node}: {function.name} is applied to sums that are not quantised; "
                            "quantise its input as well"
                        )
                draft = replace(source.draft, requantised=quantisation)
                table = _table(source.functions, quantisation, quantisation)
                source = replace(source, draft=replace(draft, table=table))
            elif source.functions:
                raise CompileError(
                    f"{node}: {source.functions[0].name} on the input; apply it on the host"
                )
            return replace(source, quantisation=quantisation, integer=True, functions=())
        if source.draft is None:
            if _same(quantisation, source.quantisation) and not source.functions:
                return replace(source, integer=True)
            raise CompileError(f"{node}: the input is quantised twice; quantise it once")
        table = _table(source.functions, source.quantisation, quantisation)
        if source.draft.winners is not None and table != tuple(range(LARGEST_KEY + 1)):
            raise CompileError(
                f"{node}: activations are quantised anew behind k-WTA, with scale "
                f"{quantisation.scale!r} instead of {source.quantisation.scale!r}; give both tensors "
                "the same quantisation"
            )
        draft = replace(source.draft, table=tuple(table[key] for key in source.draft.table))
        return replace(source, draft=draft, quantisation=quantisation, integer=True, functions=())

    def dequantise(self, node: Node) -> _Value:
        """DequantizeLinear."""
        value = self._value(node, 0)
        scale, zero = self._scale_and_zero(node)
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "iu":
                raise CompileError(f"{node}: its input has type {value.dtype}, not integers")
            axis = int(node.attributes.get("axis", 1))
            offset = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64)
            shape = [1] * value.ndim
            if offset.size > 1:
                shape[axis] = offset.size
            return _Quantised(value.astype(np.int64) - offset.reshape(shape), scale.ravel(), axis)
        source = self._map(node)
        quantisation = self._activation_quantisation(node, scale, zero)
        if source.draft is None and source.quantisation is None:
            if self._graph.inputs[0].dtype != ("int8" if quantisation.signed else "uint8"):
                raise CompileError(f"{node}: the input is not quantised; add a QuantizeLinear")
        elif not source.integer:
            raise CompileError(f"{node}: its input is not quantised")
        return replace(source, quantisation=quantisation, integer=False)

    def convolve(self, node: Node) -> _Value:
        """Conv."""
        source = self._layer_input(node)
        if source.axes not in (("C", "W"), ("C", "H", "W")):
            raise CompileError(f"{node}: its input has axes {source.axes}; it needs channels first")
        weights = self._weights(node, 1)
        one_dimensional = len(source.axes) == 2
        rank = 1 if one_dimensional else 2
        kernels = weights.integers
        if kernels.ndim != rank + 2:
            raise CompileError(
                f"{node}: {kernels.ndim - 2} dimensions of windows on a map with {rank}"
            )
        groups = int(node.attributes.get("group", 1))
        channels = source.sizes["C"]
        if groups < 1 or channels != kernels.shape[1] * groups or kernels.shape[0] % groups:
            raise CompileError(
                f"{node}: kernels {list(kernels.shape)} in {groups} groups do not fit {channels} channels"
            )
        kernels = _ungroup(kernels, groups)
        if one_dimensional:
            kernels = kernels[:, :, None, :]
        in_shape = (channels, source.sizes.get("H", 1), source.sizes["W"])
        stride, dilation = (
            self._pair(node, name, one_dimensional) for name in ("strides", "dilations")
        )
        padding = self._padding(
            node, in_shape[1:], kernels.shape[2:], stride, dilation, one_dimensional
        )
        return self._begin(node, source, weights, kernels, in_shape, stride, dilation, padding)

    def multiply_matrix(self, node: Node) -> _Value:
        """Gemm or MatMul."""
        source = self._layer_input(node)
        if len(source.axes) != 1:
            raise CompileError(
                f"{node}: its input has shape {['N', *source.shape]}; flatten it to two axes first"
            )
        for name, plain in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if node.attributes.get(name, plain) != plain:
                raise CompileError(
                    f"{node}: {name} is {node.attributes[name]}; only {plain} is supported"
                )
        weights = self._weights(node, 1)
        matrix = weights.integers
        if matrix.ndim != 2:
            raise CompileError(f"{node}: its weights have {matrix.ndim} axes instead of 2")
        if not node.attributes.get("transB", 0):
            matrix = matrix.T
            weights = replace(weights, axis=1 - weights.axis % 2)
        letters = source.axes[0]
        if matrix.shape[1] != source.shape[0]:
            raise CompileError(
                f"{node}: weights for {matrix.shape[1]} inputs, but {source.shape[0]} activations"
            )
        kernels = matrix.reshape(matrix.shape[0], *(source.sizes[letter] for letter in letters))
        for missing in set("CHW") - set(letters):
            letters += missing
            kernels = kernels[..., None]
        kernels = kernels.transpose(0, *(1 + letters.index(letter) for letter in "CHW"))
        in_shape = (kernels.shape[1], kernels.shape[2], kernels.shape[3])
        made = self._begin(node, source, weights, kernels, in_shape, (1, 1), (1, 1), (0, 0, 0, 0))
        return replace(made, axes=("C",), sizes={"C": matrix.shape[0]})

    def max_pool(self, node: Node) -> _Value:
        """MaxPool."""
        source = self._map(node)
        if source.draft is None:
            raise CompileError(f"{node}: pools the model's input; apply it on the host")
        if source.draft.winners is not None:
            raise CompileError(f"{node}: pools behind k-WTA; pool first, then select winners")
        if source.draft.pool is not None:
            raise CompileError(f"{node}: a second pooling of one layer; merge it with the first")
        if source.axes not in (("C", "W"), ("C", "H", "W")):
            raise CompileError(f"{node}: its input has axes {source.axes}; it needs channels first")
        one_dimensional = len(source.axes) == 2
        kernel = self._pair(node, "kernel_shape", one_dimensional)
        stride = self._pair(node, "strides", one_dimensional)
        if self._pair(node, "dilations", one_dimensional) != (1, 1):
            raise CompileError(f"{node}: dilated pooling is not supported")
        size = (source.sizes.get("H", 1), source.sizes["W"])
        padding = self._padding(node, size, kernel, stride, (1, 1), one_dimensional)
        if any(padding):
            raise CompileError(
                f"{node}: padded pooling is not supported; pad the map, or pool without"
            )
        if any(have < want for have, want in zip(size, kernel, strict=True)):
            raise CompileError(f"{node}: its window {kernel} is larger than the map {size}")
        if node.attributes.get("ceil_mode", 0) and any(
            (have - want) % step for have, want, step in zip(size, kernel, stride, strict=True)
        ):
            raise CompileError(
                f"{node}: windows that reach over the edge (ceil_mode) are not supported"
            )
        rows, columns = (
            (have - want) // step + 1 for have, want, step in zip(size, kernel, stride, strict=True)
        )
        sizes = source.sizes | ({"W": columns} if one_dimensional else {"H": rows, "W": columns})
        return replace(source, sizes=sizes, draft=replace(source.draft, pool=Pool(kernel, stride)))

    def select_winners(self, node: Node) -> _Value:
        """k-WTA, as the pass `k_winners` left it."""
        source = self._resolve(self._map(node), str(node))
        if source.draft is None:
            raise CompileError(f"{node}: k-WTA on the model's input; apply it on the host")
        if source.quantisation is None:
            raise CompileError(
                f"{node}: k-WTA on activations that are not quantised; quantise its input"
            )
        if source.draft.winners is not None:
            raise CompileError(
                f"{node}: a second k-WTA on one layer; keep the one with fewer winners"
            )
        axis = int(node.attributes["axis"]) % (len(source.axes) + 1)
        letters = source.axes[axis - 1] if axis else ""
        whole = len(source.axes) == 1
        if letters != "C" and source.positions > 1:
            raise CompileError(
                f"{node}: k-WTA over axis {axis}; the overlay selects among the channels of a "
                "position, or among the outputs of a fully connected layer: use axis 1"
            )
        k, channels = int(node.attributes["k"]), source.sizes["C"]
        if not 1 <= k <= channels:
            raise CompileError(f"{node}: k is {k}; it must be in 1..{channels}, the channels")
        selection = abi.Selection.EXACT if node.attributes["exact"] else abi.Selection.THRESHOLD
        draft = replace(source.draft, winners=Winners(k, selection, whole))
        return replace(source, draft=draft)

    def rename(self, node: Node) -> _Value:
        """Identity and its kin."""
        value = self._value(node, 0)
        return self._map(node) if isinstance(value, _Map) else value

    def reshape(self, node: Node) -> _Value:
        """Flatten, Reshape, Squeeze, Unsqueeze."""
        value = self._value(node, 0)
        if isinstance(value, np.ndarray):
            return value.reshape(self._new_shape(node, value.shape))
        source = self._map(node)
        batch_and_rest = self._new_shape(node, (1, *source.shape))
        sizes = list(batch_and_rest[1:])
        if batch_and_rest[0] != 1 or math.prod(sizes) != math.prod(source.shape):
            raise CompileError(f"{node}: reshapes {['N', *source.shape]} to {batch_and_rest}")
        letters = "".join(source.axes)
        if source.draft is None and letters in AXES.values() and len(sizes) in AXES:
            # Nothing depends on the names of the input's axes yet.
            named = _fresh_map(sizes)
            return replace(source, axes=named.axes, sizes=named.sizes)
        if len(sizes) == 1:
            return replace(source, axes=(letters,))
        full = [letter for letter in letters if source.sizes[letter] > 1]
        kept = [size for size in sizes if size > 1]
        if kept == [source.sizes[letter] for letter in full] and len(sizes) in AXES:
            # Only axes of size 1 come or go, so the names follow from the order.
            if full == ["C"] and (sizes[0] > 1 or letters == "C"):
                return replace(
                    source,
                    axes=tuple(AXES[len(sizes)]),
                    sizes=dict(zip(AXES[len(sizes)], sizes, strict=True)),
                )
            if "".join(full) == "".join(c for c in AXES[len(sizes)] if c in full):
                names = AXES[len(sizes)]
                new_sizes = dict(zip(names, sizes, strict=True))
                if all(new_sizes[c] == source.sizes[c] for c in full):
                    return replace(source, axes=tuple(names), sizes=new_sizes)
        raise CompileError(
            f"{node}: reshapes {['N', *source.shape]} to {['N', *sizes]}; the overlay keeps maps as "
            "channels, rows and columns, or flattens them"
        )

    def transpose(self, node: Node) -> _Value:
        """Transpose."""
        value = self._value(node, 0)
        if isinstance(value, _Map):
            source = self._map(node)
            rank = len(source.axes) + 1
            order = [int(i) for i in node.attributes.get("perm", range(rank - 1, -1, -1))]
            if sorted(order) != list(range(rank)) or order[0] != 0:
                raise CompileError(f"{node}: permutation {order} moves the batch or does not fit")
            return replace(source, axes=tuple(source.axes[i - 1] for i in order[1:]))
        array = value if isinstance(value, np.ndarray) else value.integers
        order = [int(i) for i in node.attributes.get("perm", range(array.ndim - 1, -1, -1))]
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        axis = order.index(value.axis % array.ndim) if value.scale.size > 1 else value.axis
        return _Quantised(array.transpose(order), value.scale, axis)

    def apply_function(self, node: Node) -> _Value:
        """Relu, Clip and other functions that never decrease."""
        value = self._value(node, 0)
        if isinstance(value, np.ndarray) and node.op_type == "Clip":
            low, high = self._bounds(node)
            clipped = np.clip(value, low, high)
            return clipped.astype(value.dtype)
        source = self._map(node)
        if source.integer:
            raise CompileError(f"{node}: on quantised integers; dequantise first")
        function = self._function(node)
        return replace(source, functions=(*source.functions, function))

    # --- parts ------------------------------------------------------------------------------------

    def _value(self, node: Node, position: int) -> _Value:
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name not in self._values:
            raise CompileError(f"{node}: its input {name!r} is not defined before it is used")
        return self._values[name]

    def _constant(self, node: Node, position: int) -> Array | None:
        """A constant input, None if it is left out."""
        if position >= len(node.inputs) or not node.inputs[position]:
            return None
        value = self._value(node, position)
        if not isinstance(value, np.ndarray):
            raise CompileError(
                f"{node}: its input {node.inputs[position]!r} must be a constant; export the model "
                "with fixed sizes"
            )
        return value

    def _map(self, node: Node, position: int = 0) -> _Map:
        name = node.inputs[position]
        value = self._value(node, position)
        if not isinstance(value, _Map):
            raise CompileError(f"{node}: its input {name!r} is a constant, not an activation map")
        before = self._taken.setdefault(name, node)
        if before is not node:
            raise CompileError(
                f"{name!r} is used by {before} and by {node}; the overlay runs chains of layers "
                "without branches"
            )
        return value

    def _layer_input(self, node: Node) -> _Map:
        """The map a layer reads; ends the layer that made it."""
        source = self._resolve(self._map(node), str(node))
        if source.quantisation is None or source.integer:
            raise CompileError(
                f"{node}: its input is not quantised; quantise the model (QDQ), or give "
                "--calibration data to have that done"
            )
        if source.draft is None:
            self._input_axes = "".join(source.axes)
        else:
            self._close(source)
        return source

    def _resolve(self, source: _Map, user: str) -> _Map:
        """Put functions that were not followed by a quantisation into the keys as they are."""
        if not source.functions:
            return source
        if source.quantisation is None or source.draft is None:
            raise CompileError(
                f"{user}: {source.functions[0].name} is not followed by a quantisation; quantise its output"
            )
        if not all(function.keeps for function in source.functions):
            names = ", ".join(function.name for function in source.functions)
            raise CompileError(
                f"{user}: {names} is not followed by a quantisation; quantise its output"
            )
        table = _table(source.functions, source.quantisation, source.quantisation)
        draft = replace(source.draft, table=tuple(table[key] for key in source.draft.table))
        return replace(source, draft=draft, functions=())

    def _scale_and_zero(self, node: Node) -> tuple[npt.NDArray[np.float32], Array | None]:
        scale, zero = self._constant(node, 1), self._constant(node, 2)
        if scale is None:
            raise CompileError(f"{node}: it has no scale")
        scale = scale.astype(np.float32)
        if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
            raise CompileError(f"{node}: its scale must be positive and finite; calibrate again")
        return scale, zero

    def _activation_quantisation(
        self, node: Node, scale: npt.NDArray[np.float32], zero: Array | None
    ) -> Quantisation:
        if scale.size != 1 or (zero is not None and zero.size != 1):
            raise CompileError(f"{node}: activations need one scale for the whole tensor")
        dtype = np.dtype(np.uint8) if zero is None else zero.dtype
        if dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
            raise CompileError(f"{node}: activations are {dtype}; the overlay takes int8 and uint8")
        return Quantisation(
            np.float32(scale.item()), 0 if zero is None else int(zero.item()), dtype == np.int8
        )

    def _weights(self, node: Node, position: int) -> _Quantised:
        value = self._value(node, position)
        if isinstance(value, np.ndarray):
            raise CompileError(
                f"{node}: its weights are not quantised; quantise the model (QDQ), or give "
                "--calibration data to have that done"
            )
        if not isinstance(value, _Quantised):
            raise CompileError(
                f"{node}: its weights are computed by the model; they must be constant"
            )
        low, high = int(value.integers.min(initial=0)), int(value.integers.max(initial=0))
        if low < -128 or high > 127:
            raise CompileError(
                f"{node}: weights less their zero point are in {low}..{high}; the overlay takes int8 "
                "with zero point 0"
            )
        return value

    def _begin(
        self,
        node: Node,
        source: _Map,
        weights: _Quantised,
        kernels: npt.NDArray[np.int64],
        in_shape: tuple[int, int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        padding: tuple[int, int, int, int],
    ) -> _Map:
        """Start a layer on its input."""
        outputs = kernels.shape[0]
        rank = weights.integers.ndim
        if weights.scale.size not in (1, outputs) or (
            weights.scale.size > 1 and weights.axis % rank
        ):
            raise CompileError(
                f"{node}: {weights.scale.size} weight scales for {outputs} kernels; the overlay takes "
                "one for all or one a kernel"
            )
        assert source.quantisation is not None
        draft = _Draft(
            name=node.name,
            weights=kernels.astype(np.int8),
            weight_scale=np.broadcast_to(weights.scale, outputs).astype(np.float32),
            bias=self._bias(node, outputs),
            stride=stride,
            dilation=dilation,
            padding=padding,
            in_shape=in_shape,
            input=source.quantisation,
        )
        rows, columns = _finished(draft, Pool(), 0, LARGEST_KEY).conv_shape
        if rows < 1 or columns < 1:
            raise CompileError(f"{node}: its window is larger than the map of {in_shape[1:]}")
        sizes = {"C": outputs, "W": columns}
        if "H" in source.axes:
            sizes["H"] = rows
        return _Map(axes=source.axes, sizes=sizes, draft=draft)

    def _bias(self, node: Node, outputs: int) -> tuple[Fraction, ...]:
        if len(node.inputs) < 3 or not node.inputs[2]:
            return (Fraction(0),) * outputs
        value = self._value(node, 2)
        if isinstance(value, _Map):
            raise CompileError(f"{node}: its bias is computed by the model; it must be constant")
        if isinstance(value, np.ndarray):
            numbers = [Fraction(float(number)) for number in value.ravel()]
        else:
            scales = np.broadcast_to(value.scale, value.integers.size)
            numbers = [
                int(number) * Fraction(float(scale))
                for number, scale in zip(value.integers.ravel(), scales, strict=True)
            ]
        if len(numbers) not in (1, outputs):
            raise CompileError(f"{node}: {len(numbers)} biases for {outputs} kernels")
        return tuple(numbers if len(numbers) == outputs else numbers * outputs)

    def _pair(self, node: Node, name: str, one_dimensional: bool) -> tuple[int, int]:
        values = [
            int(value) for value in node.attributes.get(name, [1] if one_dimensional else [1, 1])
        ]
        if len(values) != (1 if one_dimensional else 2) or min(values) < 1:
            raise CompileError(f"{node}: {name} is {values}; it needs a positive number an axis")
        return (1, values[0]) if one_dimensional else (values[0], values[1])

    def _padding(
        self,
        node: Node,
        size: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        one_dimensional: bool,
    ) -> tuple[int, int, int, int]:
        """Padding at the top, left, bottom and right."""
        auto = node.attributes.get("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            before, after = [], []
            for have, want, step, spread in zip(size, kernel, stride, dilation, strict=True):
                reach = (math.ceil(have / step) - 1) * step + (want - 1) * spread + 1
                total = max(0, reach - have)
                first = total // 2 if auto == "SAME_UPPER" else total - total // 2
                before.append(first)
                after.append(total - first)
            return before[0], before[1], after[0], after[1]
        if auto == "VALID":
            return 0, 0, 0, 0
        pads = [
            int(pad) for pad in node.attributes.get("pads", [0, 0] if one_dimensional else [0] * 4)
        ]
        if len(pads) != (2 if one_dimensional else 4) or min(pads) < 0:
            raise CompileError(f"{node}: pads are {pads}; they must not be negative, two an axis")
        return (0, pads[0], 0, pads[1]) if one_dimensional else (pads[0], pads[1], pads[2], pads[3])

    def _new_shape(self, node: Node, old: tuple[int, ...]) -> tuple[int, ...]:
        """The shape a reshape gives a tensor of shape `old`."""
        rank = len(old)
        if node.op_type == "Flatten":
            axis = int(node.attributes.get("axis", 1)) % (rank + 1)
            return math.prod(old[:axis]), math.prod(old[axis:])
        wanted = node.attributes.get("axes")
        if node.op_type in ("Squeeze", "Unsqueeze"):
            axes = self._constant(node, 1) if len(node.inputs) > 1 else wanted
            numbers = [] if axes is None else [int(axis) for axis in np.ravel(axes)]
            if node.op_type == "Squeeze":
                gone = [axis % rank for axis in numbers] or [
                    i for i in range(1, rank) if old[i] == 1
                ]
                return tuple(size for i, size in enumerate(old) if i not in gone)
            new = list(old)
            for axis in sorted(axis % (rank + len(numbers)) for axis in numbers):
                new.insert(axis, 1)
            return tuple(new)
        shape = self._constant(node, 1)
        if shape is None:
            raise CompileError(f"{node}: it has no shape")
        sizes = [int(size) for size in shape.ravel()]
        if not node.attributes.get("allowzero", 0):
            sizes = [old[i] if size == 0 and i < rank else size for i, size in enumerate(sizes)]
        if sizes.count(-1) > 1 or min(sizes, default=-1) < -1:
            raise CompileError(f"{node}: its shape {sizes} is not one")
        if -1 in sizes:
            known = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = math.prod(old) // known if known else 0
        if math.prod(sizes) != math.prod(old):
            raise CompileError(f"{node}: reshapes {list(old)} to {sizes}")
        return tuple(sizes)

    def _bounds(self, node: Node) -> tuple[float, float]:
        """Bounds of a Clip."""
        low, high = self._constant(node, 1), self._constant(node, 2)
        return (
            float(node.attributes.get("min", -math.inf)) if low is None else float(low.item()),
            float(node.attributes.get("max", math.inf)) if high is None else float(high.item()),
        )

    def _function(self, node: Node) -> _Function:
        if node.op_type == "Relu":
            return _Function(str(node), lambda x: max(x, Fraction(0)), True, True)
        if node.op_type == "Clip":
            low, high = self._bounds(node)
            if math.isnan(low) or math.isnan(high) or low > high:
                raise CompileError(f"{node}: clips to {low}..{high}")

            def clip(x: Fraction) -> Fraction:
                x = x if low == -math.inf else max(x, Fraction(low))
                return x if high == math.inf else min(x, Fraction(high))

            return _Function(str(node), clip, True, low in (0.0, -math.inf) and high == math.inf)
        if node.op_type == "LeakyRelu":
            slope = Fraction(float(np.float32(node.attributes.get("alpha", 0.01))))
            if slope < 0:
                raise CompileError(f"{node}: a negative slope of {float(slope)} decreases")
            return _Function(str(node), lambda x: x if x > 0 else x * slope, False, False)
        functions: dict[str, Callable[[float], float]] = {
            "Sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
            "Tanh": math.tanh,
        }
        function = functions[node.op_type]
        return _Function(str(node), lambda x: Fraction(function(float(x))), False, False)

    def _close(self, source: _Map) -> None:
        """Finish the layer that made a map."""
        draft = source.draft
        assert draft is not None
        low, high, table = 0, LARGEST_KEY, draft.table
        clipped = tuple(min(max(key, table[0]), table[-1]) for key in range(LARGEST_KEY + 1))
        if table == clipped:
            low, high = table[0], table[-1]
        layer = _finished(draft, draft.pool or Pool(), low, high)
        if table != clipped:
            layer = replace(layer, table=np.array(table, np.uint8))
        self._layers.append(replace(layer, output=source.quantisation))


def _finished(draft: _Draft, pool: Pool, low: int, high: int) -> Layer:
    return Layer(
        name=draft.name,
        weights=draft.weights,
        weight_scale=draft.weight_scale,
        bias=draft.bias,
        stride=draft.stride,
        dilation=draft.dilation,
        padding=draft.padding,
        in_shape=draft.in_shape,
        input=draft.input,
        low=low,
        high=high,
        requantised=draft.requantised,
        table=None,
        output=None,
        pool=pool,
        winners=draft.winners,
    )


def _fresh_map(sizes: Sequence[int]) -> _Map:
    """A map whose axes have their usual names."""
    letters = AXES[len(sizes)]
    return _Map(axes=tuple(letters), sizes=dict(zip(letters, sizes, strict=True)))


def _same(a: Quantisation, b: Quantisation) -> bool:
    return (a.scale, a.zero_point, a.signed) == (b.scale, b.zero_point, b.signed)


def _table(
    functions: tuple[_Function, ...], before: Quantisation, after: Quantisation
) -> tuple[int, ...]:
    """Keys of `after` for the keys of `before`, functions applied in between."""
    table = []
    for key in range(LARGEST_KEY + 1):
        real = (key - before.zero_key) * before.exact_scale
        for function in functions:
            real = function.apply(real)
        rounded = round(real / after.exact_scale) + after.zero_key
        table.append(min(max(rounded, 0), LARGEST_KEY))
    return tuple(table)


def _quantise_constant(
    value: Array, scale: npt.NDArray[np.float32], zero: Array | None, axis: int
) -> Array:
    """QuantizeLinear of a constant, as exporters leave it before weights."""
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if dtype.kind not in "iu":
        raise CompileError(f"constants are quantised to {dtype}; the overlay takes integers")
    shape = [1] * value.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    offset = np.zeros(1) if zero is None else zero.astype(np.float64)
    if offset.size > 1:
        offset = offset.reshape(shape)
    numbers = np.rint(value.astype(np.float64) / scale.astype(np.float64).reshape(shape)) + offset
    limits = np.iinfo(dtype)
    return np.clip(numbers, limits.min, limits.max).astype(dtype)


def _ungroup(kernels: npt.NDArray[np.int64], groups: int) -> npt.NDArray[np.int64]:
    """Kernels of a grouped convolution as kernels over all channels: zeros elsewhere.

    Kernels of different groups never collide, so tiles take them as one.
    """
    outputs, inputs = kernels.shape[:2]
    full = np.zeros((outputs, inputs * groups, *kernels.shape[2:]), np.int64)
    share = outputs // groups
    for group in range(groups):
        rows = slice(group * share, (group + 1) * share)
        full[rows, group * inputs : (group + 1) * inputs] = kernels[rows]
    return full


_HANDLERS: dict[str, Callable[[_Lowering, Node], _Value]] = {
    "Cast": _Lowering.rename,
    "Clip": _Lowering.apply_function,
    "Conv": _Lowering.convolve,
    "DequantizeLinear": _Lowering.dequantise,
    "Dropout": _Lowering.rename,
    "Flatten": _Lowering.reshape,
    "Gemm": _Lowering.multiply_matrix,
    "Identity": _Lowering.rename,
    K_WINNERS: _Lowering.select_winners,
    "LeakyRelu": _Lowering.apply_function,
    "MatMul": _Lowering.multiply_matrix,
    "MaxPool": _Lowering.max_pool,
    "QuantizeLinear": _Lowering.quantise,
    "Relu": _Lowering.apply_function,
    "Reshape": _Lowering.reshape,
    "Sigmoid": _Lowering.apply_function,
    "Squeeze": _Lowering.reshape,
    "Tanh": _Lowering.apply_function,
    "Transpose": _Lowering.transpose,
    "Unsqueeze": _Lowering.reshape,
}

SUPPORTED = tuple(sorted(name for name in _HANDLERS if name != K_WINNERS))
"""Operators of ONNX that the compiler takes."""
