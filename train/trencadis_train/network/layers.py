"""Convolutions and fully connected layers with masked weights; batch-norm that can be folded."""

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from trencadis_train.errors import TrainingError
from trencadis_train.network.kernels import convolve
from trencadis_train.sparsity.masks import Mask, consecutive_sets

__all__ = [
    "PooledBatchNorm1d",
    "PooledBatchNorm2d",
    "SparseConv2d",
    "SparseLayer",
    "SparseLinear",
]

_Pair = tuple[int, int]


class SparseLayer(nn.Module):
    """Base of masked layers; not used on its own.

    A masked layer is the dense one of PyTorch with two buffers more. Its parameter `weight` keeps a
    number for every position, but only those under the mask count, and only those get gradients.

    Attributes
    ----------
    mask : bool tensor, shape of the weights
        Weights that may be other than zero.
    sets : int64 tensor, shape (kernels,)
        Number of the complementary set of every kernel; a kernel alone in its set may have any
        mask.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    mask: torch.Tensor
    sets: torch.Tensor

    def _init_mask(self, mask: Mask | None, sets: npt.NDArray[np.integer] | None) -> None:
        self.register_buffer("mask", torch.ones(self.weight.shape, dtype=torch.bool))
        self.register_buffer("sets", torch.zeros(len(self.weight), dtype=torch.int64))
        everything = np.ones((self.kernels, self.rows), bool)
        self.set_mask(everything if mask is None else mask, sets)
        with torch.no_grad():
            # As in PyTorch for ReLU, but with the inputs that a kernel has left.
            fan_in = self.mask.flatten(1).sum(dim=1).clamp(min=1).float()
            scale = torch.sqrt(2 / fan_in).view(-1, *[1] * (self.weight.ndim - 1))
            self.weight.copy_(torch.randn(self.weight.shape) * scale)
            if self.bias is not None:
                self.bias.zero_()

    @property
    def kernels(self) -> int:
        """Output channels or units."""
        return len(self.weight)

    @property
    def rows(self) -> int:
        """Weights of a dense kernel."""
        return math.prod(self.weight.shape[1:])

    @property
    def nonzeros(self) -> int:
        """Weights under the mask."""
        return int(self.mask.sum())

    def masked_weight(self) -> torch.Tensor:
        """The weights that count."""
        return self.weight * self.mask

    def set_mask(self, mask: Mask, sets: npt.NDArray[np.integer] | None = None) -> None:
        """Give the layer another mask; weights outside it are forgotten.

        Parameters
        ----------
        mask : bool array, shape (kernels, rows)
            The mask.
        sets : int array, shape (kernels,), optional
            Set of every kernel; every kernel on its own without it.

        Raises
        ------
        TrainingError
            If a shape is not that of the layer.
        """
        if mask.shape != (self.kernels, self.rows):
            raise TrainingError(
                f"the mask must have shape {[self.kernels, self.rows]}, not {list(mask.shape)}"
            )
        sets = consecutive_sets(self.kernels, 1) if sets is None else sets
        if sets.shape != (self.kernels,):
            raise TrainingError(
                f"sets must be one per kernel, {self.kernels}, not {list(sets.shape)}"
            )
        with torch.no_grad():
            self.mask.copy_(torch.from_numpy(mask.reshape(self.weight.shape)))
            self.sets.copy_(torch.from_numpy(np.asarray(sets, np.int64)))
            self.weight.mul_(self.mask)

    def mask_array(self) -> Mask:
        """The mask, shape (kernels, rows)."""
        return cast(Mask, self.mask.flatten(1).cpu().numpy())

    def sets_array(self) -> npt.NDArray[np.int64]:
        """Set of every kernel."""
        return self.sets.cpu().numpy()


class SparseConv2d(nn.Conv2d, SparseLayer):
    """A convolution with masked weights.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels.
    window : int or (rows, columns)
        Size of the kernels.
    mask : bool array, shape (kernels, rows), optional
        Weights that may be other than zero; all without it.
    sets : int array, shape (kernels,), optional
        Complementary set of every kernel.
    stride : int or (rows, columns)
        Positions between two windows.
    padding : int or (rows, columns)
        Positions added on both sides, of value zero.
    bias : bool
        Add a number to every channel.

    Raises
    ------
    TrainingError
        If mask or sets do not have the shapes of the layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: int | tuple[int, int],
        *,
        mask: Mask | None = None,
        sets: npt.NDArray[np.integer] | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, window, stride=stride, padding=padding, bias=bias
        )
        self._init_mask(mask, sets)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        stride, padding = cast(_Pair, self.stride), cast(_Pair, self.padding)
        return convolve(input, self.masked_weight(), self.bias, stride, padding)


class SparseLinear(nn.Linear, SparseLayer):
    """A fully connected layer with masked weights; parameters as in `SparseConv2d`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        mask: Mask | None = None,
        sets: npt.NDArray[np.integer] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._init_mask(mask, sets)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return functional.linear(input, self.masked_weight(), self.bias)


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm that never turns a channel upside down: its factors count without their sign.

    So it can stand after max-pooling, where it works on a quarter of the data, and still be folded
    into the convolution before it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        return _norm(self, input)


class PooledBatchNorm1d(nn.BatchNorm1d):
    """`PooledBatchNorm2d` for fully connected layers."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        return _norm(self, input)


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    momentum = 0.0 if module.momentum is None else module.momentum
    if module.training and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        if module.momentum is None:  # which asks for the mean of all batches
            momentum = 1 / float(module.num_batches_tracked)
    return functional.batch_norm(
        x,
        module.running_mean,
        module.running_var,
        None if module.weight is None else module.weight.abs(),
        module.bias,
        module.training,
        momentum,
        module.eps,
    )
