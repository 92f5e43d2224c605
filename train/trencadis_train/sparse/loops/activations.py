"""Activations with their derivatives, fused with dropout: one pass over the sums.

`forward` leaves the factor by which gradients go back through the activation, dropout included:
All-ReLU has no zero outputs but gives away neither sign nor slope by its output.
"""

from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "ActivationName",
    "activate",
    "activate_row",
    "k_winners",
    "negative_slope",
    "scale_row",
]

Floats = npt.NDArray[np.float32]

ActivationName = Literal["all-relu", "relu", "leaky-relu"]

_jit = numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
_jit_sum = numba.njit(
    cache=True, nogil=True, fastmath={"reassoc", "nsz"}, error_model="numpy", boundscheck=False
)


def negative_slope(name: ActivationName, slope: float, layer: int) -> float:
    """Slope of a hidden layer's activation for negative sums.

    All-ReLU alternates: `-slope` in the first, third, ... hidden layer, `slope` in the others.
    Source: Curci, Mocanu, Pechenizkiy, "Truly sparse neural networks at scale", 2021 (arXiv
    2102.01732), equation 2.

    Parameters
    ----------
    name : str
        Name of the activation.
    slope : float
        Its parameter.
    layer : int
        From 0 on, from the input.
    """
    if name == "relu":
        return 0.0
    if name == "leaky-relu":
        return slope
    return slope if layer % 2 else -slope


@_jit
def activate_row(
    a: Floats, factor: Floats, i: int, slope: float, dropout: float, seed: np.uint32
) -> None:
    """Compute a row of `activate`, in compiled code."""
    s = np.float32(slope)
    batch = a.shape[1]
    if dropout == 0.0:
        for b in range(batch):
            d = np.float32(1) if a[i, b] > 0 else s
            factor[i, b] = d
            a[i, b] = d * a[i, b]
        return
    keep = np.float32(1.0 / (1.0 - dropout))
    threshold = np.uint32(dropout * 65536.0)
    half = (batch + 1) // 2
    start = np.uint32(seed + i * half)
    for b in range(half):
        # The finaliser of MurmurHash3 (public domain): a random number of any place at once,
        # whose halves decide about two examples.
        h = np.uint32(start + np.uint32(b))
        h = np.uint32(h ^ (h >> np.uint32(16)))
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h = np.uint32(h ^ (h >> np.uint32(13)))
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        h = np.uint32(h ^ (h >> np.uint32(16)))
        d = np.float32(1) if a[i, b] > 0 else s
        d = d * keep if (h & np.uint32(0xFFFF)) >= threshold else np.float32(0)
        factor[i, b] = d
        a[i, b] = d * a[i, b]
        other = half + b
        if other < batch:
            d = np.float32(1) if a[i, other] > 0 else s
            d = d * keep if (h >> np.uint32(16)) >= threshold else np.float32(0)
            factor[i, other] = d
            a[i, other] = d * a[i, other]


@_jit
def _activate(a: Floats, factor: Floats, slope: float, dropout: float, seed: int) -> None:
    for i in range(a.shape[0]):
        activate_row(a, factor, i, slope, dropout, np.uint32(seed))


def activate(a: Floats, factor: Floats, slope: float, dropout: float = 0.0, seed: int = 0) -> None:
    """Compute `a = factor a` and the factor: 1 or the slope, times dropout's 0 or 1 / (1 - p).

    Parameters
    ----------
    a : float32 array, shape (neurons, batch)
        Sums, which become activations.
    factor : float32 array, shape (neurons, batch)
        Written.
    slope : float
        For sums that are not positive.
    dropout : float
        Part of the activations that become zero.
    seed : int
        Seed of dropout, different for every layer and step.
    """
    _activate(a, factor, slope, dropout, seed & 0xFFFFFFFF)


@_jit
def k_winners(a: Floats, factor: Floats, k: int) -> None:
    """Keep the k largest of every example, the first of equal ones; others and factors become 0.

    Parameters
    ----------
    a, factor : float32 array, shape (neurons, batch)
        A and factor from `activate`, changed in place.
    k : int
        Winners, at most the neurons.
    """
    neurons, batch = a.shape
    column = np.empty(neurons, np.float32)
    for b in range(batch):
        for i in range(neurons):
            column[i] = a[i, b]
        threshold = np.partition(column, neurons - k)[neurons - k]
        above = 0
        for i in range(neurons):
            above += column[i] > threshold
        ties = k - above
        for i in range(neurons):
            keep = column[i] > threshold
            if column[i] == threshold and ties > 0:
                keep = True
                ties -= 1
            if not keep:
                a[i, b] = 0
                factor[i, b] = 0


@_jit_sum
def scale_row(gradients: Floats, factor: Floats, i: int) -> np.float32:
    """Compute `gradients *= factor` of a row, in compiled code, and its sum."""
    total = np.float32(0)
    for b in range(gradients.shape[1]):
        g = gradients[i, b] * factor[i, b]
        gradients[i, b] = g
        total += g
    return np.float32(total)
