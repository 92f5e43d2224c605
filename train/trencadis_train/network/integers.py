"""A network of integers, as it runs on the hardware, evaluated exactly.

Activations are bytes, weights are 8 bits, biases 32. The sums of a layer are integers, and
`(sum + bias) * s_x * s_w / s_y` is rounded half to even: what the exported ONNX graph means in
exact arithmetic.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from trencadis_train.network.k_winners import k_winners_mask

__all__ = ["MAX_BYTE", "ByteScale", "IntegerLayer", "IntegerNetwork"]

EXACT_SUMS = 1 << 24
"""Integers up to this magnitude are exact in float32, and so are their sums."""

MAX_BYTE = 255


@dataclass(frozen=True)
class ByteScale:
    """Quantisation of a tensor to bytes: real = scale * (byte - zero_point)."""

    scale: np.float32
    zero_point: int

    def quantise(self, real: torch.Tensor) -> torch.Tensor:
        """Bytes of real numbers, as float64."""
        steps = torch.round(real.double() / float(self.scale)) + self.zero_point
        return steps.clamp(0, MAX_BYTE)


@dataclass(frozen=True)
class IntegerLayer:
    """A layer on integers.

    Attributes
    ----------
    name : str
        Name of the layer.
    weights : int8 array, shape (kernels, channels, rows, columns) or (kernels, inputs)
        Kernels of a convolution, or a matrix.
    weight_scale : float32 array, shape (kernels,)
        Scale of each kernel.
    bias : int32 array, shape (kernels,)
        Bias in units of `bias_scale`.
    bias_scale : float32 array, shape (kernels,)
        Scale of the input times that of the kernel, rounded to float32 as ONNX files have it.
    stride, padding : (rows, columns)
        Stride and padding of a convolution.
    flatten : bool
        The input is flattened first.
    relu : bool
        Negative sums become zero.
    pool : (rows, columns) or None
        Max-pooling.
    input, output : ByteScale
        Quantisation before and after.
    k : int or None
        Winners among channels, or units.
    """

    name: str
    weights: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]
    bias_scale: npt.NDArray[np.float32]
    stride: tuple[int, int]
    padding: tuple[int, int]
    flatten: bool
    relu: bool
    pool: tuple[int, int] | None
    input: ByteScale
    output: ByteScale
    k: int | None

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return int(np.count_nonzero(self.weights))

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Exact sums of products, without bias, as float32 or float64.

        Parameters
        ----------
        values : float tensor
            Bytes less their zero point.
        """
        weights = torch.from_numpy(self.weights.astype(np.float32)).to(values.device)
        if self.weights.ndim == 2:
            return functional.linear(values.double(), weights.double())
        if values.device.type != "cpu":
            # Libraries of GPUs may convolve by transforms, which are not exact; these are nearly.
            sums = functional.conv2d(
                values.double(), weights.double(), None, self.stride, self.padding
            )
            return sums.round()
        values = values.float()
        pieces = [
            functional.conv2d(values[:, c], weights[:, c], None, self.stride, self.padding)
            for c in self._pieces()
        ]
        # What fits float32 on its own need not fit it together.
        return pieces[0] if len(pieces) == 1 else torch.stack(pieces).double().sum(dim=0)

    def _pieces(self) -> list[slice]:
        """Channels whose sums are exact in float32, as few pieces as neighbours allow."""
        magnitudes = np.abs(self.weights.astype(np.int64)).sum(axis=(2, 3)) * MAX_BYTE
        starts, reach = [0], np.zeros(len(magnitudes), np.int64)
        for channel, own in enumerate(magnitudes.T):
            if (reach + own).max() > EXACT_SUMS and channel > starts[-1]:
                starts.append(channel)
                reach = np.zeros_like(reach)
            reach = reach + own
        return [slice(*pair) for pair in itertools.pairwise([*starts, magnitudes.shape[1]])]

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Bytes of the output for bytes of the input, both as floats."""
        values = values - self.input.zero_point
        if self.flatten:
            values = values.flatten(1)
        sums = self.sums(values)
        if self.pool is not None:
            sums = functional.max_pool2d(sums, self.pool)
        shape = (1, -1) + (1,) * (sums.ndim - 2)
        exact = self.weight_scale.astype(np.float64) * float(self.input.scale)
        shift = self.bias.astype(np.float64) * self.bias_scale.astype(np.float64)
        gain, offset = (
            torch.from_numpy(numbers).to(sums.device).view(shape) for numbers in (exact, shift)
        )
        real = sums.double() * gain + offset
        if self.relu:
            real = real.clamp(min=0)
        result = self.output.quantise(real)
        if self.k is not None and self.k < result.shape[1]:
            mask = k_winners_mask(result.float(), self.k)
            result = torch.where(mask, result, float(self.output.zero_point))
        return result


@dataclass(frozen=True)
class IntegerNetwork:
    """Layers in order, between one input and one output of real numbers.

    Attributes
    ----------
    name : str
        Name of the network.
    input_shape : tuple of int
        Input shape of an example: (channels, rows, columns).
    layers : tuple of IntegerLayer
        Layers, in order.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[IntegerLayer, ...]

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero."""
        return sum(layer.nonzeros for layer in self.layers)

    def taking_bytes(self) -> Self:
        """The same network for inputs whose step is 1: for bytes as they are.

        The first layer's scales take up what the input's scale was. They are float32, so results
        may differ where rounding is a tie.
        """
        first = self.layers[0]
        scale = first.weight_scale.astype(np.float64) * float(first.input.scale)
        single = scale.astype(np.float32)
        source = ByteScale(np.float32(1), first.input.zero_point)
        first = replace(first, weight_scale=single, bias_scale=single, input=source)
        return replace(self, layers=(first, *self.layers[1:]))

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Real outputs of real inputs, float32, shape (examples, classes)."""
        with torch.no_grad():
            result = self.layers[0].input.quantise(inputs)
            for layer in self.layers:
                result = layer(result)
            last = self.layers[-1].output
            return ((result - last.zero_point) * float(last.scale)).float()
