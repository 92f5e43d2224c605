"""Losses of feature-major outputs and their gradients."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["LossName", "loss_function", "mean_squared_error", "softmax_cross_entropy"]

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

LossName = Literal["cross-entropy", "mse"]

LossFunction = Callable[[Floats, Labels, float], tuple[float, Floats]]


def loss_function(name: LossName) -> LossFunction:
    """The loss of a name: outputs, labels and smoothing to the mean loss and its gradient."""
    return softmax_cross_entropy if name == "cross-entropy" else mean_squared_error


def softmax_cross_entropy(z: Floats, labels: Labels, smoothing: float) -> tuple[float, Floats]:
    """Mean cross-entropy of a softmax.

    Parameters
    ----------
    z : float32 array, shape (classes, batch)
        Outputs.
    labels : int64 array, shape (batch,)
        Classes.
    smoothing : float
        Share of the target that is spread over all classes.

    Returns
    -------
    float
        The mean loss.
    float32 array, shape (classes, batch)
        Its gradient.
    """
    target = _targets(z, labels, smoothing)
    with np.errstate(invalid="ignore"):  # who asks looks at the loss
        shifted = z - z.max(axis=0)
        logs = shifted - np.log(np.exp(shifted).sum(axis=0))
        loss = -float((target * logs).sum(dtype=np.float64)) / z.shape[1]
        return loss, (np.exp(logs) - target) / np.float32(z.shape[1])


def mean_squared_error(z: Floats, labels: Labels, smoothing: float) -> tuple[float, Floats]:
    """Half the squared distance to the labels as one-hot vectors, mean over the batch.

    Parameters and results are those of `softmax_cross_entropy`.
    """
    difference = z - _targets(z, labels, smoothing)
    with np.errstate(invalid="ignore", over="ignore"):
        loss = 0.5 * float(np.square(difference, dtype=np.float64).sum()) / z.shape[1]
    return loss, difference / np.float32(z.shape[1])


def _targets(z: Floats, labels: Labels, smoothing: float) -> Floats:
    target = np.full(z.shape, smoothing / len(z), np.float32)
    target[labels, np.arange(len(labels))] += np.float32(1 - smoothing)
    return target
