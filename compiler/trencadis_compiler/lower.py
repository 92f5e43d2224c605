"""From an operator graph to a chain of layers on integers.

The graph is walked in order. A value is a constant, a quantised constant (weights, bias), or the
one activation map under way, which collects what happens to it until the next convolution:

    sums --(BatchNorm, ReLU, max-pooling)--> quantise --(functions, max-pooling, k-WTA)--> keys
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.constants import FOLDED, aligned, fold, quantise_constant
from trencadis_compiler.errors import CompileError
from trencadis_compiler.functions import (
    FUNCTIONS,
    LARGEST_KEY,
    PLAIN,
    Function,
    function_of,
    table_of,
)
from trencadis_compiler.graph import K_WINNERS, QUANT, Graph, Node
from trencadis_compiler.ir import Layer, Network, Pool, Quantisation, TensorInfo, Winners
from trencadis_compiler.shapes import (
    flattened,
    padding,
    reshaped,
    squeezed,
    unsqueezed,
    window,
)
from trencadis_hw import abi

__all__ = ["SUPPORTED", "check_operators", "lower"]

Array = npt.NDArray[Any]

AXES = {1: "C", 2: "CW", 3: "CHW"}
"""Axes of a map, behind the batch, by their number."""

LARGEST_MAP = 1 << 20
"""Values of a padded map; no engine holds as many."""

LARGEST_KERNELS = 1 << 27
"""Weights of a layer, zeros included; no engine holds as many."""

REAL = ("float16", "float32", "float64")
BYTES = ("int8", "uint8")

TO_REAL = (1, 11)
"""ONNX's numbers of the types that hold every quantised activation and its scale."""

ARITHMETIC = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class _Quantised:
    """A dequantised constant: integers, and a scale for all or one for every index of `axis`."""

    integers: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float32]
    axis: int


@dataclass(frozen=True)
class _Draft:
    """A layer under way: what is known of it so far."""

    name: str
    weights: npt.NDArray[np.int8]
    weight_scale: tuple[Fraction, ...]
    bias: tuple[Fraction, ...]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    in_shape: tuple[int, int, int]
    input: Quantisation
    requantised: Quantisation | None = None
    table: tuple[int, ...] = PLAIN
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
    functions: tuple[Function, ...] = ()

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
        # What nobody needs is left out.
        self._graph = graph.with_nodes(graph.nodes)
        self._values: dict[str, _Value] = dict(graph.constants)
        self._layers: list[Layer] = []
        self._input_axes = ""
        self._taken: dict[str, Node] = {}
        self._batch = 1

    def run(self) -> Network:
        """Walk the graph."""
        graph = self._graph
        check_operators(graph)
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise CompileError(
                f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; the "
                "overlay runs models with one of each: split the model"
            )
        info = graph.inputs[0]
        sizes = [size for size in info.shape[1:] if size is not None]
        if len(sizes) != len(info.shape) - 1 or len(sizes) not in AXES or min(sizes) < 1:
            raise CompileError(
                f"input {info.name!r} has shape {list(info.shape)}; it needs a batch axis and one "
                "to three axes of fixed size: export the model with fixed sizes"
            )
        if info.dtype not in REAL + BYTES:
            raise CompileError(
                f"input {info.name!r} is {info.dtype}; the overlay takes {', '.join(REAL + BYTES)}:"
                " convert it on the host"
            )
        # Of a fixed batch there may be several words in every shape; the overlay takes any number.
        self._batch = info.shape[0] or 1
        self._values[info.name] = self._fresh_map(sizes)
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
            output=_checked_output(output, result),
            input_axes=self._input_axes,
            output_axes="".join(result.axes),
            output_integer=result.integer,
            layers=tuple(self._layers),
        )

    def quantise(self, node: Node) -> _Value:
        """QuantizeLinear."""
        value = self._value(node, 0)
        scale, zero = self._scale_and_zero(node)
        if isinstance(value, np.ndarray):
            zero = np.zeros(1, np.uint8) if zero is None else zero
            limits = (int(np.iinfo(zero.dtype).min), int(np.iinfo(zero.dtype).max))
            axis = int(node.attributes.get("axis", 1))
            integers = quantise_constant(node, value, scale, zero, axis, limits)
            return integers.astype(zero.dtype)
        source = self._map(node)
        return self._quantise_map(node, source, self._activation_quantisation(node, scale, zero))

    def _quantise_map(self, node: Node, source: _Map, quantisation: Quantisation) -> _Map:
        if source.integer:
            raise CompileError(f"{node}: its input is quantised already")
        if source.draft is None and self._graph.inputs[0].dtype not in REAL:
            raise CompileError(
                f"{node}: quantises integers; give the model real or quantised inputs"
            )
        if source.quantisation is None:
            if source.draft is not None:
                for function in source.functions:
                    if not function.clips:
                        raise CompileError(
                            f"{node}: {function.name} is applied to sums that are not quantised; "
                            "quantise its input as well"
                        )
                draft = replace(source.draft, requantised=quantisation)
                table = table_of(source.functions, quantisation, quantisation)
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
        table = table_of(source.functions, source.quantisation, quantisation)
        if source.draft.winners is not None and table != PLAIN:
            raise CompileError(
                f"{node}: activations are quantised anew behind k-WTA, with scale "
                f"{quantisation.scale!r} instead of {source.quantisation.scale!r}; give both "
                "tensors the same quantisation"
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
            zero = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64)
            axis = int(node.attributes.get("axis", 1))
            offset = aligned(node, zero, value, axis)
            aligned(node, scale, value, axis)
            axis = axis % value.ndim if value.ndim else 0
            return _Quantised(value.astype(np.int64) - offset, scale.ravel(), axis)
        source = self._map(node)
        quantisation = self._activation_quantisation(node, scale, zero)
        if source.draft is None and source.quantisation is None:
            if self._graph.inputs[0].dtype != ("int8" if quantisation.signed else "uint8"):
                raise CompileError(f"{node}: the input is not quantised; add a QuantizeLinear")
        elif not source.integer or source.quantisation is None:
            raise CompileError(f"{node}: its input is not quantised")
        elif source.draft is None and not _same(quantisation, source.quantisation):
            raise CompileError(
                f"{node}: the input is quantised with scale {source.quantisation.scale!r} and zero "
                f"point {source.quantisation.zero_point}, but dequantised with "
                f"{quantisation.scale!r} and {quantisation.zero_point}; give both the same"
            )
        return replace(source, quantisation=quantisation, integer=False)

    def quant(self, node: Node) -> _Value:
        """QONNX's Quant: quantises and dequantises, to any number of bits."""
        value = self._value(node, 0)
        scale, zero = self._scale_and_zero(node)
        bits = self._constant(node, 3)
        if zero is None or bits is None or bits.size != 1 or not 2 <= bits.item() <= 32:
            raise CompileError(f"{node}: it needs a zero point, and 2 to 32 bits")
        if node.attributes.get("rounding_mode", "ROUND") != "ROUND":
            raise CompileError(f"{node}: rounding_mode must be ROUND; export with that")
        signed, width = bool(node.attributes.get("signed", 1)), int(bits.item())
        narrow = int(node.attributes.get("narrow", 0))
        low = narrow - (1 << (width - 1)) if signed else 0
        high = (1 << (width - signed)) - 1 - (0 if signed else narrow)
        if isinstance(value, np.ndarray):
            shape = [axis for axis, size in enumerate(scale.shape) if size > 1]
            if scale.ndim > value.ndim or len(shape) > 1:
                raise CompileError(
                    f"{node}: its scale must be one number, or one an index of an axis"
                )
            axis = shape[0] + value.ndim - scale.ndim if shape else 0
            scale = scale.ravel()
            integers = quantise_constant(node, value, scale, zero.ravel(), axis, (low, high))
            offset = aligned(node, zero.ravel().astype(np.int64), value, axis)
            return _Quantised(integers - offset, scale, axis)
        if width > abi.KEY_BITS or scale.size != 1 or zero.size != 1:
            raise CompileError(
                f"{node}: activations need one scale for the whole tensor and at most "
                f"{abi.KEY_BITS} bits"
            )
        quantisation = Quantisation(np.float32(scale.item()), int(zero.item()), signed)
        source = replace(self._quantise_map(node, self._map(node), quantisation), integer=False)
        keys = (low + quantisation.key_offset, high + quantisation.key_offset)
        if not keys[0] <= quantisation.zero_key <= keys[1]:
            raise CompileError(f"{node}: its zero point is not in {low}..{high}")
        if keys == (0, LARGEST_KEY):
            return source
        if source.draft is None:
            raise CompileError(
                f"{node}: the input is quantised to {width} bits; use {abi.KEY_BITS}"
            )
        table = tuple(min(max(key, keys[0]), keys[1]) for key in source.draft.table)
        return replace(source, draft=replace(source.draft, table=table))

    def convolve(self, node: Node) -> _Value:
        """Conv."""
        source = self._channels_first(self._layer_input(node))
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
                f"{node}: kernels {list(kernels.shape)} in {groups} groups do not fit {channels} "
                "channels; export the model again"
            )
        if kernels.size * groups > LARGEST_KERNELS:
            raise CompileError(
                f"{node}: {kernels.size * groups} weights, more than any overlay holds; use a "
                "smaller layer"
            )
        kernels = _ungroup(kernels, groups)
        if one_dimensional:
            kernels = kernels[:, :, None, :]
        in_shape = (channels, source.sizes.get("H", 1), source.sizes["W"])
        stride, dilation = (
            window(node, name, one_dimensional) for name in ("strides", "dilations")
        )
        pads = padding(node, in_shape[1:], kernels.shape[2:], stride, dilation, one_dimensional)
        scales = _kernel_scales(node, weights, len(kernels))
        return self._begin(node, source, scales, kernels, in_shape, stride, dilation, pads)

    def multiply_matrix(self, node: Node) -> _Value:
        """Gemm or MatMul."""
        source = self._layer_input(node)
        if len(source.axes) != 1:
            raise CompileError(
                f"{node}: its input has shape {['N', *source.shape]}; flatten it to two axes first"
            )
        if node.attributes.get("transA", 0):
            raise CompileError(f"{node}: transA is 1; transpose the weights instead")
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
        scales = _kernel_scales(node, weights, len(kernels))
        made = self._begin(node, source, scales, kernels, in_shape, (1, 1), (1, 1), (0, 0, 0, 0))
        alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
        if (alpha, beta) != (1.0, 1.0):
            draft = _scaled(node, made, np.full(len(kernels), alpha)).draft
            assert draft is not None
            assert made.draft is not None
            bias = tuple(Fraction(beta) * number for number in made.draft.bias)
            made = replace(made, draft=replace(draft, bias=bias))
        return replace(made, axes=("C",), sizes={"C": matrix.shape[0]})

    def max_pool(self, node: Node) -> _Value:
        """MaxPool."""
        source = self._map(node)
        if source.draft is None:
            raise CompileError(f"{node}: pools the model's input; apply it on the host")
        if source.draft.winners is not None:
            raise CompileError(f"{node}: pools behind k-WTA; pool first, then select winners")
        if source.axes not in (("C", "W"), ("C", "H", "W")):
            raise CompileError(f"{node}: its input has axes {source.axes}; it needs channels first")
        one_dimensional = len(source.axes) == 2
        size = (source.sizes.get("H", 1), source.sizes["W"])
        if node.op_type == "GlobalMaxPool":
            kernel, stride = size, (1, 1)
        else:
            kernel = window(node, "kernel_shape", one_dimensional)
            stride = window(node, "strides", one_dimensional)
        if window(node, "dilations", one_dimensional) != (1, 1):
            raise CompileError(f"{node}: dilated pooling is not supported; pool without")
        if any(padding(node, size, kernel, stride, (1, 1), one_dimensional)):
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
        # Pooling what is pooled is pooling with a larger window.
        before = source.draft.pool or Pool()
        (high, wide), (down, across) = before.kernel, before.stride
        pool = Pool(
            (high + (kernel[0] - 1) * down, wide + (kernel[1] - 1) * across),
            (down * stride[0], across * stride[1]),
        )
        return replace(source, sizes=sizes, draft=replace(source.draft, pool=pool))

    def average(self, node: Node) -> _Value:
        """AveragePool, GlobalAveragePool, and ReduceMean over all positions.

        An average is a convolution whose kernels have ones on their own channel alone. Kernels of
        different channels never collide, so tiles take as many as they have room for.
        """
        if node.op_type == "ReduceMean" and self._means_nothing(node):
            return self.rename(node)
        source = self._channels_first(self._layer_input(node))
        if source.axes not in (("C", "W"), ("C", "H", "W")):
            raise CompileError(f"{node}: its input has axes {source.axes}; it needs channels first")
        one_dimensional = len(source.axes) == 2
        channels, size = source.sizes["C"], (source.sizes.get("H", 1), source.sizes["W"])
        kernel, stride, pads = size, (1, 1), (0, 0, 0, 0)
        if node.op_type == "AveragePool":
            kernel = window(node, "kernel_shape", one_dimensional)
            stride = window(node, "strides", one_dimensional)
            pads = padding(node, size, kernel, stride, (1, 1), one_dimensional)
            if any(pads) and not node.attributes.get("count_include_pad", 0):
                raise CompileError(
                    f"{node}: averages at the edge are of fewer values (count_include_pad is 0); "
                    "set it to 1, or pool without padding"
                )
            if node.attributes.get("ceil_mode", 0) or any(
                step != 1 for step in window(node, "dilations", one_dimensional)
            ):
                raise CompileError(f"{node}: ceil_mode and dilations are not supported")
        elif node.op_type == "ReduceMean":
            self._check_mean(node, source)
        if channels * channels * math.prod(kernel) > LARGEST_KERNELS:
            raise CompileError(
                f"{node}: averages {channels} channels over windows of {kernel}, more than any "
                "overlay holds; pool in two steps"
            )
        kernels = np.zeros((channels, channels, *kernel), np.int64)
        kernels[range(channels), range(channels)] = 1
        scales = (Fraction(1, math.prod(kernel)),) * channels
        in_shape = (channels, *size)
        made = self._begin(node, source, scales, kernels, in_shape, stride, (1, 1), pads)
        if node.op_type == "ReduceMean" and not node.attributes.get("keepdims", 1):
            return replace(made, axes=("C",), sizes={"C": channels})
        return made

    def _mean_axes(self, node: Node) -> list[int]:
        """Axes of a ReduceMean as they are written; none if it names none."""
        axes = self._constant(node, 1) if len(node.inputs) > 1 else node.attributes.get("axes")
        return [] if axes is None else [int(axis) for axis in np.ravel(axes)]

    def _means_nothing(self, node: Node) -> bool:
        """Whether a ReduceMean names no axes and for that leaves everything as it is."""
        return bool(node.attributes.get("noop_with_empty_axes", 0)) and not self._mean_axes(node)

    def _check_mean(self, node: Node, source: _Map) -> None:
        """Whether a mean is over all positions, each channel for itself."""
        rank = len(source.axes) + 1
        numbers = self._mean_axes(node)
        if sorted(axis % rank for axis in numbers) != list(range(2, rank)):
            raise CompileError(
                f"{node}: takes the mean over axes {numbers or 'all'}; the overlay averages over "
                f"positions, axes {list(range(2, rank))}"
            )

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
        rank = len(source.axes) + 1
        axes = [int(axis) for axis in node.attributes["axes"]]
        axis = axes[0] % rank
        if not all(-rank <= other < rank and other % rank == axis for other in axes):
            raise CompileError(
                f"{node}: k-WTA selects along axes {axes} of {rank}, which are not the same"
            )
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

    def cast(self, node: Node) -> _Value:
        """Cast between real types that hold all values there are."""
        value = self._value(node, 0)
        to = node.attributes.get("to")
        if isinstance(value, np.ndarray):
            types = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}
            if to not in types:
                raise CompileError(
                    f"{node}: casts a constant to ONNX's type {to}; export it as such"
                )
            return value.astype(types[to])
        if isinstance(value, _Quantised) or value.integer or to not in TO_REAL:
            raise CompileError(
                f"{node}: casts to ONNX's type {to}, which changes numbers; leave activations "
                "float32"
            )
        return self._map(node)

    def fold(self, node: Node) -> _Value:
        """Shape arithmetic."""
        inputs = []
        for i, name in enumerate(node.inputs):
            value = self._value(node, i) if name else np.zeros(0, np.int64)
            if node.op_type == "Shape" and isinstance(value, _Map):
                value = np.broadcast_to(np.zeros(1), (self._batch, *value.shape))
            if not isinstance(value, np.ndarray):
                raise CompileError(f"{node}: its input {name!r} must be a constant")
            inputs.append(value)
        return fold(node, inputs)

    def normalise(self, node: Node) -> _Value:
        """BatchNormalization."""
        source = self._sums(node, 0)
        numbers = [self._constant(node, position) for position in range(1, 5)]
        if any(array is None or array.size != source.sizes["C"] for array in numbers):
            raise CompileError(
                f"{node}: it needs four numbers for each of {source.sizes['C']} channels"
            )
        gain, offset, mean, variance = (np.asarray(array, np.float64).ravel() for array in numbers)
        spread = variance + float(node.attributes.get("epsilon", 1e-5))
        if not np.all(np.isfinite([gain, offset, mean, spread])) or np.any(spread <= 0):
            raise CompileError(f"{node}: its parameters must be finite, variances not negative")
        factors = gain / np.sqrt(spread)
        scaled = _scaled(node, source, factors)
        return _shifted(
            scaled,
            [
                Fraction(up) - Fraction(factor) * Fraction(down)
                for up, factor, down in zip(
                    offset.tolist(), factors.tolist(), mean.tolist(), strict=True
                )
            ],
        )

    def arithmetic(self, node: Node) -> _Value:
        """Add, Sub, Mul or Div of a map and a number for every channel."""
        first = self._values.get(node.inputs[0])
        position = 0 if isinstance(first, _Map) else 1
        if not isinstance(self._value(node, position), _Map):
            raise CompileError(f"{node}: computes with constants; export them as one constant")
        if position and node.op_type in ("Sub", "Div"):
            raise CompileError(f"{node}: its first input is a constant; exchange the two")
        source = self._sums(node, position)
        numbers = self._per_channel(node, 1 - position, source)
        if node.op_type in ("Add", "Sub"):
            sign = 1 if node.op_type == "Add" else -1
            return _shifted(source, [sign * number for number in numbers])
        if node.op_type == "Div" and 0 in numbers:
            raise CompileError(f"{node}: divides by zero")
        factors = np.array([float(number) for number in numbers])
        return _scaled(node, source, factors if node.op_type == "Mul" else 1 / factors)

    def reshape(self, node: Node) -> _Value:
        """Flatten, Reshape, Squeeze, Unsqueeze."""
        value = self._value(node, 0)
        if isinstance(value, np.ndarray):
            return value.reshape(self._new_shape(node, value.shape))
        if isinstance(value, _Quantised):
            if value.scale.size > 1:
                raise CompileError(f"{node}: reshapes weights with a scale a kernel; store them so")
            shape = self._new_shape(node, value.integers.shape)
            return _Quantised(value.integers.reshape(shape), value.scale, 0)
        source = self._map(node)
        batch, *sizes = self._new_shape(node, (self._batch, *source.shape)) or (0,)
        if batch != self._batch or math.prod(sizes) != math.prod(source.shape) or not sizes:
            raise CompileError(
                f"{node}: reshapes {['N', *source.shape]} to {[batch, *sizes]}; keep the batch axis"
            )
        letters = "".join(source.axes)
        if source.draft is None and letters in AXES.values() and len(sizes) in AXES:
            # Nothing depends on the names of the input's axes yet.
            named = self._fresh_map(sizes)
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
            f"{node}: reshapes {['N', *source.shape]} to {['N', *sizes]}; the overlay keeps maps "
            "as channels, rows and columns, or flattens them"
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
        low, high = self._bounds(node) if node.op_type == "Clip" else (-math.inf, math.inf)
        return replace(source, functions=(*source.functions, function_of(node, low, high)))

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
        if source.draft is not None:
            self._close(source)
        return source

    def _fresh_map(self, sizes: Sequence[int]) -> _Map:
        """The model's input as a map whose axes have their usual names."""
        self._input_axes = AXES[len(sizes)]
        return _Map(tuple(self._input_axes), dict(zip(self._input_axes, sizes, strict=True)))

    def _channels_first(self, source: _Map) -> _Map:
        """The model's input, transposed perhaps, with its axes named by where they are now."""
        usual = AXES[len(self._input_axes)]
        if source.draft is not None or sorted(source.axes) != sorted(usual):
            return source
        names = dict(zip(source.axes, usual, strict=True))
        self._input_axes = "".join(names[axis] for axis in self._input_axes)
        sizes = {names[axis]: size for axis, size in source.sizes.items()}
        return replace(source, axes=tuple(usual), sizes=sizes)

    def _resolve(self, source: _Map, user: str) -> _Map:
        """Put functions that were not followed by a quantisation into the keys as they are."""
        if not source.functions:
            return source
        if source.quantisation is None or source.draft is None:
            raise CompileError(
                f"{user}: {source.functions[0].name} is not followed by a quantisation; quantise "
                "its output"
            )
        if not all(function.keeps for function in source.functions):
            names = ", ".join(function.name for function in source.functions)
            raise CompileError(
                f"{user}: {names} is not followed by a quantisation; quantise its output"
            )
        table = table_of(source.functions, source.quantisation, source.quantisation)
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
        types = {2: np.dtype(np.uint8), 3: np.dtype(np.int8)}
        dtype = types.get(int(node.attributes.get("output_dtype", 0)), np.dtype(np.uint8))
        if zero is not None:
            dtype = zero.dtype
        elif node.op_type == "DequantizeLinear":
            dtype = self._integer_type(node)
        if dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
            raise CompileError(f"{node}: activations are {dtype}; the overlay takes int8 and uint8")
        return Quantisation(
            np.float32(scale.item()), 0 if zero is None else int(zero.item()), dtype == np.int8
        )

    def _integer_type(self, node: Node) -> np.dtype[Any]:
        """Type of the quantised map that a node reads."""
        value = self._value(node, 0)
        if isinstance(value, _Map) and value.quantisation is not None:
            return np.dtype(np.int8 if value.quantisation.signed else np.uint8)
        return np.dtype(self._graph.inputs[0].dtype)

    def _sums(self, node: Node, position: int) -> _Map:
        """The map a node reads, which must be a layer's sums as they are."""
        source = self._map(node, position)
        if source.draft is None:
            raise CompileError(f"{node}: on the model's input; apply it on the host")
        if source.quantisation is not None or source.functions:
            raise CompileError(
                f"{node}: on activations that are quantised already, or behind a function; merge "
                "it with the layer before, as onnxruntime's quant_pre_process does, and quantise "
                "again"
            )
        return source

    def _per_channel(self, node: Node, position: int, source: _Map) -> list[Fraction]:
        """A constant as one number for every channel of a map."""
        value = self._value(node, position)
        numbers: Array
        if isinstance(value, _Quantised):
            scale = aligned(node, value.scale, value.integers, value.axis)
            numbers = np.array(value.integers, object) * np.vectorize(_fraction, otypes=[object])(
                scale
            )
        elif isinstance(value, np.ndarray) and np.all(np.isfinite(value)):
            numbers = np.vectorize(_fraction, otypes=[object])(value)
        else:
            raise CompileError(
                f"{node}: its input {node.inputs[position]!r} must be finite numbers"
            )
        rank, channels = len(source.axes) + 1, source.sizes["C"]
        shape = (1,) * (rank - numbers.ndim) + numbers.shape
        wanted = [channels if axis == "C" else 1 for axis in ("N", *source.axes)]
        if len(shape) != rank or any(
            have not in (1, want) for have, want in zip(shape, wanted, strict=True)
        ):
            raise CompileError(
                f"{node}: its constant has shape {list(numbers.shape)}; it needs one number for "
                "each channel, or one for all"
            )
        return list(np.broadcast_to(numbers.reshape(shape), wanted).ravel())

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
                f"{node}: weights less their zero point are in {low}..{high}; the overlay takes "
                "int8 with zero point 0"
            )
        return value

    def _begin(
        self,
        node: Node,
        source: _Map,
        scales: tuple[Fraction, ...],
        kernels: npt.NDArray[np.int64],
        in_shape: tuple[int, int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        pads: tuple[int, int, int, int],
    ) -> _Map:
        """Start a layer on its input."""
        outputs = kernels.shape[0]
        assert source.quantisation is not None
        draft = _Draft(
            name=node.name,
            weights=kernels.astype(np.int8),
            weight_scale=scales,
            bias=self._bias(node, outputs),
            stride=stride,
            dilation=dilation,
            padding=pads,
            in_shape=in_shape,
            input=source.quantisation,
        )
        rows, columns = _finished(draft, Pool(), 0, LARGEST_KEY).conv_shape
        if rows < 1 or columns < 1 or min(kernels.shape) < 1:
            raise CompileError(
                f"{node}: its window of {kernels.shape[2:]} does not fit the map of {in_shape[1:]}"
            )
        padded = (in_shape[1] + pads[0] + pads[2]) * (in_shape[2] + pads[1] + pads[3])
        if padded * in_shape[0] > LARGEST_MAP:
            raise CompileError(
                f"{node}: its padded input map has {padded * in_shape[0]} values, more than any "
                "overlay holds; use smaller inputs or paddings"
            )
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
            if value.dtype.kind != "f" or not np.all(np.isfinite(value)):
                raise CompileError(f"{node}: its bias must be of finite real numbers")
            shape = value.shape
            numbers = [_fraction(number) for number in value.ravel()]
        else:
            shape = value.integers.shape
            scales = np.broadcast_to(
                aligned(node, value.scale, value.integers, value.axis), shape
            ).ravel()
            numbers = [
                int(number) * _fraction(scale)
                for number, scale in zip(value.integers.ravel(), scales, strict=True)
            ]
        if len(shape) > 1 and math.prod(shape[:-1]) != 1:
            raise CompileError(f"{node}: its bias has shape {list(shape)}; it needs one a kernel")
        if len(numbers) not in (1, outputs):
            raise CompileError(f"{node}: {len(numbers)} biases for {outputs} kernels")
        return tuple(numbers if len(numbers) == outputs else numbers * outputs)

    def _new_shape(self, node: Node, old: tuple[int, ...]) -> tuple[int, ...]:
        """The shape a reshape gives a tensor of shape `old`."""
        if node.op_type == "Flatten":
            return flattened(node, old)
        if node.op_type == "Reshape":
            shape = self._constant(node, 1)
            if shape is None:
                raise CompileError(f"{node}: it has no shape; export the model again")
            return reshaped(node, old, shape)
        axes = self._constant(node, 1) if len(node.inputs) > 1 else node.attributes.get("axes")
        numbers = [] if axes is None else [int(axis) for axis in np.ravel(axes)]
        return (squeezed if node.op_type == "Squeeze" else unsqueezed)(node, old, numbers)

    def _bounds(self, node: Node) -> tuple[float, float]:
        """Bounds of a Clip."""
        low, high = self._constant(node, 1), self._constant(node, 2)
        return (
            float(node.attributes.get("min", -math.inf)) if low is None else float(low.item()),
            float(node.attributes.get("max", math.inf)) if high is None else float(high.item()),
        )

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


def _kernel_scales(node: Node, weights: _Quantised, outputs: int) -> tuple[Fraction, ...]:
    """A scale for every kernel."""
    many = weights.scale.size
    if many not in (1, outputs) or (many > 1 and weights.axis % weights.integers.ndim):
        raise CompileError(
            f"{node}: {many} weight scales for {outputs} kernels; the overlay takes one for all or "
            "one a kernel"
        )
    return tuple(_fraction(scale) for scale in np.broadcast_to(weights.scale, outputs))


def _same(a: Quantisation, b: Quantisation) -> bool:
    return (a.scale, a.zero_point, a.signed) == (b.scale, b.zero_point, b.signed)


def _fraction(number: Any) -> Fraction:
    return Fraction(float(number))


def _scaled(node: Node, source: _Map, factors: npt.NDArray[np.float64]) -> _Map:
    """A map of sums multiplied by a number a channel."""
    draft = source.draft
    assert draft is not None
    if not np.all(np.isfinite(factors)):
        raise CompileError(f"{node}: multiplies by {factors}; it must be finite")
    if draft.pool is not None and np.any(factors < 0):
        raise CompileError(
            f"{node}: multiplies what is pooled by negative numbers; pool afterwards"
        )
    signs = np.sign(factors).astype(np.int64)
    # A scale must be positive: signs, and zeros, go into the weights.
    weights = draft.weights * signs.reshape(-1, *(1,) * (draft.weights.ndim - 1))
    if weights.max(initial=0) > 127:
        raise CompileError(f"{node}: negates weights of -128; quantise them to -127..127")
    scales = tuple(
        scale * (abs(Fraction(factor)) or 1)
        for scale, factor in zip(draft.weight_scale, factors.tolist(), strict=True)
    )
    bias = [
        Fraction(factor) * number
        for factor, number in zip(factors.tolist(), draft.bias, strict=True)
    ]
    draft = replace(draft, weights=weights.astype(np.int8), weight_scale=scales, bias=tuple(bias))
    return replace(source, draft=draft)


def _shifted(source: _Map, numbers: Sequence[Fraction]) -> _Map:
    """A map of sums with a number a channel added."""
    draft = source.draft
    assert draft is not None
    bias = tuple(a + b for a, b in zip(draft.bias, numbers, strict=True))
    return replace(source, draft=replace(draft, bias=bias))


def _checked_output(declared: TensorInfo, result: _Map) -> TensorInfo:
    """The output as it is, which must not contradict what the model declares."""
    shape = (declared.shape[0] if declared.shape else None, *result.shape)
    if len(shape) != len(declared.shape) or any(
        said not in (None, is_) for said, is_ in zip(declared.shape[1:], shape[1:], strict=False)
    ):
        raise CompileError(
            f"output {declared.name!r} is declared with shape {list(declared.shape)}, but has "
            f"{['N', *shape[1:]]}; export the model again"
        )
    dtype = declared.dtype
    if result.integer and result.quantisation is not None:
        dtype = "int8" if result.quantisation.signed else "uint8"
    if dtype != declared.dtype or dtype not in REAL + BYTES or (dtype in REAL) == result.integer:
        raise CompileError(
            f"output {declared.name!r} is declared {declared.dtype}, which it is not; export the "
            "model again"
        )
    return TensorInfo(declared.name, shape, dtype)


def check_operators(graph: Graph) -> None:
    """Whether there are only operators that a layer can do.

    Raises
    ------
    CompileError
        Naming all others.
    """
    computed = {info.name for info in graph.inputs}
    unknown: dict[str, list[str]] = {}
    for node in graph.nodes:
        data = [name for name in node.inputs if name in computed]
        if node.op_type == "Shape":
            continue
        if data:
            computed.update(node.outputs)
        if (
            node.op_type not in _HANDLERS
            or (node.op_type in FOLDED and data)
            or (node.op_type in ARITHMETIC and len(data) > 1)
        ):
            unknown.setdefault(node.op_type, []).append(repr(node.name))
    if not unknown:
        return
    names = "; ".join(f"{op_type} {', '.join(nodes)}" for op_type, nodes in unknown.items())
    remedy = "remove them, or apply them on the host"
    if any(op_type.split(".")[-1].startswith(("QLinear", "QGemm")) for op_type in unknown):
        remedy = "quantise with QuantFormat.QDQ"
    raise CompileError(
        f"unsupported operators: {names}; the overlay runs {', '.join(SUPPORTED)} in a chain, and "
        f"k-WTA by TopK: {remedy}"
    )


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
    "AveragePool": _Lowering.average,
    "BatchNormalization": _Lowering.normalise,
    "Cast": _Lowering.cast,
    "Conv": _Lowering.convolve,
    "DequantizeLinear": _Lowering.dequantise,
    "Dropout": _Lowering.rename,
    "Flatten": _Lowering.reshape,
    "Gemm": _Lowering.multiply_matrix,
    "GlobalAveragePool": _Lowering.average,
    "GlobalMaxPool": _Lowering.max_pool,
    "Identity": _Lowering.rename,
    K_WINNERS: _Lowering.select_winners,
    "MatMul": _Lowering.multiply_matrix,
    "MaxPool": _Lowering.max_pool,
    QUANT: _Lowering.quant,
    "QuantizeLinear": _Lowering.quantise,
    "ReduceMean": _Lowering.average,
    "Reshape": _Lowering.reshape,
    "Squeeze": _Lowering.reshape,
    "Transpose": _Lowering.transpose,
    "Unsqueeze": _Lowering.reshape,
    **dict.fromkeys(ARITHMETIC, _Lowering.arithmetic),
    **dict.fromkeys(FOLDED, _Lowering.fold),
    **dict.fromkeys(FUNCTIONS, _Lowering.apply_function),
}

SUPPORTED = tuple(sorted(_HANDLERS.keys() - {K_WINNERS, *FOLDED}))
"""Operators of ONNX that the compiler takes."""
