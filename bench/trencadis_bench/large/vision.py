"""Convolutional networks of known shapes with random sparse weights."""

import math
from dataclasses import replace

import numpy as np
import onnx

from trencadis_bench.large.draft import Draft, Real

__all__ = ["chain", "mobilenet_v2", "resnet50"]

CLASSES = 1000

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""ResNet-50: channels of a stage inside its blocks, blocks, and the stride of the first."""

EXPANSION = 4

KEPT = 1.3
"""Size after ReLU of a sum of which one part is positive, times the square root of two."""

BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""MobileNetV2: expansion, channels, blocks, and the stride of the first."""


def resnet50(*, size: int = 224, sparsity: float = 0.75, seed: int = 1) -> onnx.ModelProto:
    """ResNet-50 (He et al. 2016), strides in 3x3 convolutions, batch normalisation merged.

    Parameters
    ----------
    size : int
        Rows and columns of the picture.
    sparsity : float
        Part of the weights of each layer that is zero, anywhere.
    seed : int
        Seed of the weights.
    """
    draft = Draft(seed, sparsity)
    x = draft.quantised(draft.input("image", (1, 3, size, size)))
    x = draft.relu(draft.convolution(x, 64, 7, stride=2))
    x = _max_pool(draft, x)
    for channels, blocks, stride in STAGES:
        for block in range(blocks):
            x = _bottleneck(draft, x, channels, stride if block == 0 else 1)
    return draft.model("resnet50", [_classified(draft, x)])


def _bottleneck(draft: Draft, x: Real, channels: int, stride: int) -> Real:
    inside = draft.relu(draft.convolution(x, channels, 1))
    inside = draft.relu(draft.convolution(inside, channels, 3, stride=stride))
    y = draft.quantised(draft.convolution(inside, EXPANSION * channels, 1))
    past = x
    if x.shape != y.shape:
        past = draft.quantised(draft.convolution(x, EXPANSION * channels, 1, stride=stride))
    # What passes is positive already: of the sum, ReLU takes little away.
    total = draft.added(y, past)
    return draft.relu(replace(total, size=KEPT * total.size))


def _max_pool(draft: Draft, x: Real) -> Real:
    name = draft.node("MaxPool", x.name, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    _, channels, rows, columns = x.shape
    shape = (1, channels, math.ceil(rows / 2), math.ceil(columns / 2))
    return draft.quantised(Real(name, shape, 1.3 * x.size), positive=True)


def _classified(draft: Draft, x: Real) -> Real:
    """The mean of all positions, and a layer to classes."""
    pooled = draft.node("GlobalAveragePool", x.name)
    x = draft.quantised(Real(pooled, (1, x.shape[1], 1, 1), x.size), positive=True)
    flat = draft.node("Flatten", x.name)
    x = draft.quantised(Real(flat, (1, x.shape[1]), x.size), positive=True)
    return draft.quantised(draft.linear(x, CLASSES))


def mobilenet_v2(*, size: int = 224, sparsity: float = 0.75, seed: int = 2) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al. 2018), batch normalisation merged; depthwise layers stay dense.

    Parameters are those of `resnet50`.
    """
    draft = Draft(seed, sparsity)
    x = draft.quantised(draft.input("image", (1, 3, size, size)))
    x = draft.relu(draft.convolution(x, 32, 3, stride=2), most=6)
    for expansion, channels, blocks, first_stride in BOTTLENECKS:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            inside, wide = x, x.shape[1] * expansion
            if expansion > 1:
                inside = draft.relu(draft.convolution(x, wide, 1), most=6)
            inside = draft.relu(
                draft.convolution(inside, wide, 3, stride=stride, groups=wide), most=6
            )
            y = draft.quantised(draft.convolution(inside, channels, 1))
            if x.shape == y.shape:
                y = draft.quantised(draft.added(x, y))
            x = y
    x = draft.relu(draft.convolution(x, 1280, 1), most=6)
    return draft.model("mobilenet_v2", [_classified(draft, x)])


def chain(
    *, layers: int = 30, size: int = 32, channels: int = 64, sparsity: float = 0.75, seed: int = 3
) -> onnx.ModelProto:
    """A chain of 3x3 convolutions with ReLU on maps of one size.

    Parameters
    ----------
    layers : int
        Their number, with the last, fully connected one.
    channels : int
        Channels of all maps but the input.
    """
    draft = Draft(seed, sparsity)
    x = draft.quantised(draft.input("image", (1, 3, size, size)))
    for number in range(layers - 1):
        # Halved twice, as networks for pictures of this size do.
        stride = 2 if number in (layers // 3, 2 * layers // 3) else 1
        x = draft.relu(draft.convolution(x, channels, 3, stride=stride))
    flat = draft.node("Flatten", x.name)
    x = Real(flat, (1, int(np.prod(x.shape))), x.size, x.scale)
    return draft.model("chain", [draft.quantised(draft.linear(x, 10))])
