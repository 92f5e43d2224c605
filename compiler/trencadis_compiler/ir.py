"""What a network is between the importer and the hardware: a chain of layers on integers.

Every layer is a convolution; a fully connected layer is one whose window is its whole input map.
A layer's sums are pooled, requantised, perhaps mapped through a table, and thinned out by k-WTA.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from trencadis_hw import abi

__all__ = ["Layer", "Network", "Pool", "Quantisation", "TensorInfo", "Winners"]


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
    selection: abi.Selection
    whole: bool


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    name : str
        Name of the node it came from.
    weights : int8 array, shape (out channels, in channels, rows, columns)
        Kernels.
    weight_scale : tuple of Fraction
        Scale of each kernel.
    bias : tuple of Fraction
        Real number added to each channel.
    stride, dilation : (rows, columns)
        Of the convolution.
    padding : (top, left, bottom, right)
        Positions added around the input map, of real value zero.
    in_shape : (channels, rows, columns)
        Input map.
    input : Quantisation
        Of the input map.
    low, high : int
        Smallest and largest key of the requantised sums (clipping and ReLU).
    requantised : Quantisation or None
        What sums are requantised to; None if they leave the network as they are.
    table : uint8 array, shape (256,), or None
        Activation function: key to key of `output`.
    output : Quantisation or None
        Of the output map.
    pool : Pool
        Applied to sums.
    winners : Winners or None
        k-WTA of the output map.
    """

    name: str
    weights: npt.NDArray[np.int8]
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
        return int(np.count_nonzero(self.weights))


@dataclass(frozen=True)
class Network:
    """A chain of layers between one input and one output.

    Attributes
    ----------
    name : str
        Of the model.
    input, output : TensorInfo
        As the model declares them.
    input_axes, output_axes : str
        The map's axes (channels C, rows H, columns W) in the order in which the model's tensors
        have them behind the batch, outermost first; axes that are left out have size 1.
    output_integer : bool
        The model's output is quantised integers, not the real numbers they stand for.
    layers : tuple of Layer
        In order.
    input_nonzeros : int or None
        At most so many channels of an input position are not zero, and only those are sent; None
        if all are.
    """

    name: str
    input: TensorInfo
    output: TensorInfo
    input_axes: str
    output_axes: str
    output_integer: bool
    layers: tuple[Layer, ...]
    input_nonzeros: int | None = None
