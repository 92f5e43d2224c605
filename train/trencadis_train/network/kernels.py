"""Convolution and max-pooling that take less time on CPUs, where PyTorch's own take much of it.

Both are what PyTorch computes: pooling to the bit, convolution but for the order in which sums are
added up. On other devices and for other shapes PyTorch's own are used.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["MaxPool2d", "convolve", "max_pool"]


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """A convolution; as a product of matrices if there is one input channel.

    Parameters
    ----------
    x : float tensor, shape (batch, channels, rows, columns)
        Inputs.
    weight : float tensor, shape (kernels, channels, rows, columns)
        Weights.
    bias : float tensor, shape (kernels,), optional
        Added to every channel.
    stride, padding : (rows, columns)
        As in PyTorch.

    Returns
    -------
    float tensor, shape (batch, kernels, rows, columns)
    """
    if x.device.type != "cpu" or x.shape[1] != 1 or x.requires_grad or _exporting():
        return functional.conv2d(x, weight, bias, stride, padding)
    window = (int(weight.shape[2]), int(weight.shape[3]))
    rows, columns = (
        (size + 2 * added - reach) // step + 1
        for size, added, reach, step in zip(x.shape[2:], padding, window, stride, strict=True)
    )
    windows = functional.unfold(x, window, padding=padding, stride=stride)
    kernels = weight.flatten(1).expand(len(x), -1, -1)
    out = torch.bmm(kernels, windows).view(len(x), len(weight), rows, columns)
    return out if bias is None else out + bias.view(-1, 1, 1)


def max_pool(x: torch.Tensor, window: int | tuple[int, int]) -> torch.Tensor:
    """Max-pooling without overlap; of equal values the first gets the gradient.

    Parameters
    ----------
    x : float tensor, shape (batch, channels, rows, columns)
        Inputs.
    window : int or (rows, columns)
        Window of the pooling; also the stride.
    """
    rows, columns = (window, window) if isinstance(window, int) else window
    divides = x.shape[-2] % rows == 0 and x.shape[-1] % columns == 0
    if x.device.type != "cpu" or x.ndim != 4 or not divides or _exporting():
        return functional.max_pool2d(x, (rows, columns))
    return _MaxPool.apply(x, rows, columns)


def _exporting() -> bool:
    """True while the model is traced: then it must show what it computes, not how."""
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()


class MaxPool2d(nn.MaxPool2d):
    """PyTorch's max-pooling without overlap, computed by `max_pool`."""

    def __init__(self, window: int | tuple[int, int]) -> None:
        super().__init__(window)
        self._window = window

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Pool."""
        return max_pool(input, self._window)


class _MaxPool(torch.autograd.Function):
    """The largest of strided slices: one slice for every position of the window."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        slices = [x[..., i::rows, j::columns] for i in range(rows) for j in range(columns)]
        out = slices[0].clone() if len(slices) == 1 else torch.maximum(slices[0], slices[1])
        for more in slices[2:]:
            torch.maximum(out, more, out=out)
        ctx.window = rows, columns
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, out = ctx.saved_tensors
        rows, columns = ctx.window
        inputs = torch.empty_like(x)
        open_ = torch.ones_like(out, dtype=torch.bool)
        for place in range(math.prod(ctx.window)):
            i, j = divmod(place, columns)
            hit = (x[..., i::rows, j::columns] == out) & open_
            open_ &= ~hit
            torch.mul(grads[0], hit, out=inputs[..., i::rows, j::columns])
        return inputs, None, None
