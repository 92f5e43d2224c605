"""A network between the importer and the hardware: a graph of layers on integers.

Every layer is a convolution; a fully connected layer is one whose window is its whole input map.
A layer's sums are pooled, requantised, perhaps mapped through a table, and thinned out by k-WTA.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.kernels import Kernels
from trencadis_format.layer_tables import Selection

__all__ = ["Layer", "Network", "Pool", "Quantisation", "TensorInfo", "Value", "Winners"]


@dataclass(frozen=True)
class Quantisation:
    """real = scale * (q - zero_point), q an int8 or uint8."""

    scale: np.float32
    zero_point: int
    signed: bool

    @property
    def key_offset(self) -> int:
        """Key = q + key_offset."""
        return 128 if self.signed else 0

    @property
    def zero_key(self) -> int:
        """Key of the value zero."""
        return self.zero_point + self.key_offset

    @property
    def exact_in_float32(self) -> bool:
        """True if all multiples of the scale that occur are numbers of float32."""
        multiples = float(self.scale) * np.arange(256)  # 8 and 24 significant bits
        return bool(np.array_equal(multiples, multiples.astype(np.float32)))

    @property
    def exact_scale(self) -> Fraction:
        """The scale as an exact number."""
        return Fraction(float(self.scale))


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the network as the model declares it.

    `shape` holds None where the model leaves a size open (the batch); `dtype` is a NumPy name.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Pool:
    """Max-pooling window and its steps, rows then columns; floor mode, no padding."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Winners:
    """k-WTA: which activations of a vector survive.

    `whole` marks a vector that is a whole layer, not the channels of a position.
    """

    k: int
    selection: Selection
    whole: bool


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    name : str
        Name of the node it came from.
    source, target : str
        Names of the values that it reads and makes.
    weights : Kernels
        Shape (out channels, in channels, rows, columns).
    weight_scale : tuple of Fraction
        Scale of each kernel.
    bias : tuple of Fraction
        Real number added to each channel.
    stride, dilation : (rows, columns)
        Stride and dilation of the convolution.
    padding : (top, left, bottom, right)
        Positions added around the input map, of real value zero.
    in_shape : (channels, rows, columns)
        Input map.
    input : Quantisation
        Quantisation of the input map.
    low, high : int
        Smallest and largest key of the requantised sums (clipping and ReLU).
    requantised : Quantisation or None
        What sums are requantised to; None if they leave the network as they are.
    table : uint8 array, shape (256,), or None
        Activation function: key to key of `output`.
    output : Quantisation or None
        Quantisation of the output map.
    pool : Pool
        Applied to sums.
    winners : Winners or None
        k-WTA of the output map.
    """

    name: str
    source: str
    target: str
    weights: Kernels
    weight_scale: tuple[Fraction, ...]
    bias: tuple[Fraction, ...]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    in_shape: tuple[int, int, int]
    input: Quantisation
    low: int
    high: int
    requantised: Quantisation | None
    table: npt.NDArray[np.uint8] | None
    output: Quantisation | None
    pool: Pool
    winners: Winners | None

    @property
    def padded_shape(self) -> tuple[int, int]:
        """Rows and columns of the input map with its padding."""
        _, rows, columns = self.in_shape
        top, left, bottom, right = self.padding
        return rows + top + bottom, columns + left + right

    @property
    def conv_shape(self) -> tuple[int, int]:
        """Rows and columns of the map before pooling."""
        return tuple(  # type: ignore[return-value]
            (padded - dilation * (kernel - 1) - 1) // stride + 1
            for padded, dilation, kernel, stride in zip(
                self.padded_shape, self.dilation, self.weights.shape[2:], self.stride, strict=True
            )
        )

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the output map."""
        rows, columns = (
            (size - kernel) // stride + 1
            for size, kernel, stride in zip(
                self.conv_shape, self.pool.kernel, self.pool.stride, strict=True
            )
        )
        return self.weights.shape[0], rows, columns

    @property
    def dense_products(self) -> int:
        """Multiplications of the layer if nothing were sparse."""
        rows, columns = self.conv_shape
        return rows * columns * self.weights.size

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return self.weights.nonzeros

    @cached_property
    def real_keys(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """Slope and intercept of the exact key of every channel as a function of its sum."""
        assert self.requantised is not None
        scale, zero = self.requantised.exact_scale, self.requantised.zero_key
        ratio = self.input.exact_scale / scale
        return tuple(
            (ratio * of, bias / scale + zero)
            for of, bias in zip(self.weight_scale, self.bias, strict=True)
        )


@dataclass(frozen=True)
class Value:
    """An activation map, and the tensor of the model that it equals.

    Attributes
    ----------
    name : str
        Name of the last tensor of the file that the map equals, integers or the real numbers they
        stand for.
    shape : (channels, rows, columns)
        Shape of the map.
    quantisation : Quantisation or None
        How keys are read; None for sums.
    tensor : TensorInfo
        The tensor as the model has it, batch included.
    axes : str
        The map's axes (channels C, rows H, columns W) in the order in which the tensor has them
        after the batch, outermost first; axes that are left out have size 1.
    nonzeros : int or None
        At most so many channels of a position are not zero, and only those are sent to the
        device; None if all are. Of inputs alone.
    """

    name: str
    shape: tuple[int, int, int]
    quantisation: Quantisation | None
    tensor: TensorInfo
    axes: str
    nonzeros: int | None = None

    @property
    def integer(self) -> bool:
        """True if the tensor holds the quantised integers, not the real numbers they stand for."""
        return self.quantisation is not None and self.tensor.dtype in ("int8", "uint8")


@dataclass(frozen=True)
class Network:
    """A graph of maps and the layers that make them.

    Attributes
    ----------
    name : str
        Name of the model.
    values : tuple of Value
        All maps, names unique.
    layers : tuple of Layer
        Each after the layers whose maps it reads.
    inputs, outputs : tuple of str
        Names of the values that come from outside, and of those that go there.
    """

    name: str
    values: tuple[Value, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def value(self, name: str) -> Value:
        """The value of a name."""
        return self._by_name[name]

    def producer(self, name: str) -> Layer | None:
        """The layer that makes a value; None if it comes from outside."""
        return self._producers.get(name)

    def readers(self, name: str) -> tuple[Layer, ...]:
        """The layers that read a value, in order."""
        return self._readers.get(name, ())

    @property
    def input(self) -> Value:
        """The input of a network that has one."""
        (name,) = self.inputs
        return self.value(name)

    @property
    def output(self) -> Value:
        """The output of a network that has one."""
        (name,) = self.outputs
        return self.value(name)

    @cached_property
    def _by_name(self) -> dict[str, Value]:
        return {value.name: value for value in self.values}

    @cached_property
    def _producers(self) -> dict[str, Layer]:
        return {layer.target: layer for layer in self.layers}

    @cached_property
    def _readers(self) -> dict[str, tuple[Layer, ...]]:
        found: dict[str, tuple[Layer, ...]] = {}
        for layer in self.layers:
            found[layer.source] = (*found.get(layer.source, ()), layer)
        return found
