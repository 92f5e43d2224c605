"""Stages of a trained model: each a layer with what happens to its sums.

A model is an `nn.Sequential` of PyTorch's layers and those of this package. A stage begins at a
convolution or a fully connected layer; after it, batch-norm, ReLU, max-pooling and k-WTA may
follow, in orders that the hardware can compute and that leave batch-norm foldable.
"""

from dataclasses import dataclass

import torch
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.layers import PooledBatchNorm1d, PooledBatchNorm2d
from trencadis_train.network.trace import traced_chain

__all__ = ["Stage", "folded", "split_stages"]

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Weighted = nn.Conv2d | nn.Linear


@dataclass
class Stage:
    """A layer and what happens to its sums.

    Attributes
    ----------
    name : str
        Place of the layer in the model.
    layer : nn.Conv2d or nn.Linear
        The layer.
    flatten : bool
        Its input is flattened first.
    norm : batch-norm or None
        After the layer.
    relu : bool
        Negative sums become zero.
    pool : (rows, columns) or None
        Max-pooling, window and step alike.
    winners : KWinners, KWinners2d or None
        k-WTA, last.
    """

    name: str
    layer: Weighted
    flatten: bool = False
    norm: Norm | None = None
    relu: bool = False
    pool: tuple[int, int] | None = None
    winners: KWinners | KWinners2d | None = None


def split_stages(model: nn.Module) -> list[Stage]:
    """The stages of a model, in order, as its `forward` applies them.

    Raises
    ------
    TrainingError
        Naming the module that no stage can hold.
    """
    stages: list[Stage] = []
    flatten = False
    for name, module in traced_chain(model):
        subject = f"module {name!r} ({type(module).__name__})"
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            _check_layer(subject, module)
            stages.append(Stage(name, module, flatten=flatten))
            flatten = False
        elif isinstance(module, nn.Flatten):
            if module.start_dim != 1 or module.end_dim != -1:
                raise TrainingError(f"{subject} must flatten all axes but the first")
            flatten = True
        elif isinstance(module, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)):
            continue
        elif not stages or flatten:
            raise TrainingError(f"{subject} must follow a convolution or fully connected layer")
        else:
            _extend(stages[-1], subject, module)
    if not stages:
        raise TrainingError("the model has no convolution and no fully connected layer")
    if stages[-1].winners is not None:
        raise TrainingError("the last layer has k-WTA, so most classes could never win; remove it")
    return stages


def _check_layer(subject: str, module: Weighted) -> None:
    if isinstance(module, nn.Conv2d):
        if module.groups != 1 or isinstance(module.padding, str) or module.padding_mode != "zeros":
            raise TrainingError(f"{subject} must have one group, and padding by numbers with zeros")
        if module.dilation != (1, 1):
            raise TrainingError(f"{subject} must not be dilated, its dilation is {module.dilation}")


def _extend(stage: Stage, subject: str, module: nn.Module) -> None:
    if stage.winners is not None:
        raise TrainingError(f"{subject} follows k-WTA; put k-WTA last, so that its k is exact")
    if isinstance(module, nn.ReLU):
        stage.relu = True
    elif isinstance(module, nn.MaxPool2d):
        if stage.pool is not None:
            raise TrainingError(f"{subject} is the second max-pooling of a layer; merge them")
        window = _pair(module.kernel_size)
        if _pair(module.stride) != window or _pair(module.padding) != (0, 0) or module.ceil_mode:
            raise TrainingError(f"{subject} must have steps as large as its window, and no padding")
        stage.pool = window
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        if stage.norm is not None or stage.relu:
            raise TrainingError(
                f"{subject} must follow its layer before ReLU, to be folded into it"
            )
        if stage.pool is not None and not isinstance(
            module, (PooledBatchNorm1d, PooledBatchNorm2d)
        ):
            raise TrainingError(
                f"{subject} after max-pooling may turn channels upside down; use PooledBatchNorm2d"
            )
        if module.running_mean is None:
            raise TrainingError(
                f"{subject} keeps no running statistics, so it cannot be folded into its layer; "
                "make it with track_running_stats=True"
            )
        stage.norm = module
    elif isinstance(module, (KWinners, KWinners2d)):
        if not stage.relu:
            raise TrainingError(f"{subject} needs a ReLU before it, so that what loses is zero")
        stage.winners = module
    else:
        raise TrainingError(f"{subject} is nothing the hardware computes; remove it or replace it")


def folded(stage: Stage) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of a stage with its batch-norm folded in, detached.

    Returns
    -------
    weight : float tensor, shape of the layer's weights
        Zero wherever the layer's mask is.
    bias : float tensor, shape (kernels,)
    """
    layer = stage.layer
    with torch.no_grad():
        mask = getattr(layer, "mask", None)
        weight = layer.weight.clone() if mask is None else layer.weight * mask
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.clone()
        norm = stage.norm
        if norm is not None and norm.running_var is not None and norm.running_mean is not None:
            gain = torch.rsqrt(norm.running_var + norm.eps)
            if norm.weight is not None:
                pooled = isinstance(norm, (PooledBatchNorm1d, PooledBatchNorm2d))
                gain = gain * (norm.weight.abs() if pooled else norm.weight)
            bias = (bias - norm.running_mean) * gain
            if norm.bias is not None:
                bias = bias + norm.bias
            weight = weight * gain.view(-1, *[1] * (weight.ndim - 1))
    return weight, bias


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return value[0], value[1]
