"""Compiled loops of constant fan-in layers; a neuron's batch is one cache line of 16 numbers.

What is stored of a neuron is its sum; its activation is computed when it is read, which costs
nothing beside the read, so that neither factors nor signs need memory. The backward pass updates
weights and momenta at once, so there is no array of gradients.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.scale.lines import (
    add_activated,
    add_scaled,
    dot_activated,
    prefetch_line,
    sum_line,
)

__all__ = ["BATCH", "backward", "begin_rows", "forward", "regrow_rows", "to_gradients"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.signedinteger[Any]]

BATCH = 16
"""Examples of a step: 64 bytes of float32, a cache line."""

AHEAD = 24
"""Connections between asking for a neuron and reading it."""


_jit = numba.njit(
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz", "arcp"},
    error_model="numpy",
    boundscheck=False,
)


@_jit
def _next(state: np.uint64) -> np.uint64:
    """Xorshift (Marsaglia, "Xorshift RNGs", 2003)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@_jit
def _below(bits: np.uint64, bound: int) -> np.int64:
    """Number below a bound, of the upper 32 bits."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@_jit
def _uniform(bits: np.uint64) -> np.float32:
    """Number of -1..1, of the lower 24 bits, which no place is drawn from."""
    return np.float32(np.int64(bits & np.uint64(0xFFFFFF)) * (2.0 / 16777216.0) - 1.0)


@_jit
def _seeded(seed: int, row: int) -> np.uint64:
    """A state for a row, whatever rows came before (SplitMix64, Steele et al., 2014)."""
    z = np.uint64(seed) + np.uint64(row + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


@_jit
def _place(bits: np.uint64, row: int, rows: int, inputs: int, window: int) -> np.int64:
    """A random input, of a window around the row's own place if there is one."""
    if window == 0:
        return _below(bits, inputs)
    centre = np.int64(row * inputs // rows)
    return (centre + _below(bits, window) - window // 2 + inputs) % inputs


@_jit
def begin_rows(
    indices: Indices,
    weights: Floats,
    first: int,
    last: int,
    inputs: int,
    window: int,
    limit: float,
    seed: int,
) -> None:
    """Draw inputs and weights of rows `first`..`last`, in place; no input twice in a row.

    Parameters
    ----------
    indices, weights : array, shape (rows, fan-in)
        Written.
    first, last : int
        Rows.
    inputs : int
        Inputs of the layer, below 2**32.
    window : int
        Inputs around a row's place from which its own are drawn; 0: all.
    limit : float
        Weights are uniform in -limit..limit.
    seed : int
        Seed of the layer.
    """
    rows, fan_in = indices.shape
    for i in range(first, last):
        state = _seeded(seed, i)
        q = 0
        while q < fan_in:
            state = _next(state)
            j = _place(state, i, rows, inputs, window)
            again = False
            for other in range(q):
                again |= indices[i, other] == j
            if not again:
                indices[i, q] = j
                weights[i, q] = np.float32(limit) * _uniform(state)
                q += 1


@_jit
def regrow_rows(
    indices: Indices,
    weights: Floats,
    momenta: Floats,
    first: int,
    last: int,
    inputs: int,
    window: int,
    threshold: float,
    limit: float,
    seed: int,
) -> int:
    """Replace the connections of rows whose weights are below a threshold, in place.

    Parameters are those of `begin_rows`; a connection is regrown in its own row, so fan-in stays.

    Returns
    -------
    int
        How many were replaced.
    """
    rows, fan_in = indices.shape
    small = np.empty(fan_in, np.int64)
    changed = 0
    for i in range(first, last):
        count = 0
        for q in range(fan_in):  # no branch, which nobody could predict
            small[count] = q
            count += abs(weights[i, q]) < threshold
        state = _seeded(seed, i)
        for number in range(count):
            q = small[number]
            again, j = True, np.int64(0)
            while again:
                state = _next(state)
                j = _place(state, i, rows, inputs, window)
                again = False
                for other in range(fan_in):
                    again |= indices[i, other] == j
            indices[i, q] = j
            weights[i, q] = np.float32(limit) * _uniform(state)
            momenta[i, q] = 0
        changed += count
    return changed


@_jit
def forward(
    indices: Indices, weights: Floats, bias: Floats, x: Floats, slope: float, z: Floats
) -> None:
    """Compute `z = weights @ activation(x) + bias`.

    Parameters
    ----------
    indices, weights : array, shape (rows, fan-in)
        Connections.
    bias : float32 array, shape (rows,)
        Added.
    x : float32 array, shape (inputs, 16)
        Sums of the layer before.
    slope : float
        Slope of its activation for negative sums; 1: none.
    z : float32 array, shape (rows, 16)
        Written.
    """
    rows, fan_in = indices.shape
    flat = indices.reshape(rows * fan_in)
    end = rows * fan_in - 1
    s = np.float32(slope)
    for i in range(rows):
        for b in range(BATCH):
            z[i, b] = bias[i]
        for q in range(fan_in):
            prefetch_line(x, flat[min(i * fan_in + q + AHEAD, end)])
            add_activated(z, i, weights[i, q], x, indices[i, q], s)


@_jit
def backward(
    indices: Indices,
    weights: Floats,
    momenta: Floats,
    bias: Floats,
    x: Floats,
    slope: float,
    dz: Floats,
    dx: Floats,
    rate: float,
    momentum: float,
    decay: float,
    *,
    inputs_too: bool,
) -> None:
    """Add the inputs' gradients to `dx`, and update weights, momenta and biases.

    Parameters
    ----------
    indices, weights, momenta, bias, x, slope
        As in `forward`; weights, momenta and bias change.
    dz : float32 array, shape (rows, 16)
        Gradient of the sums.
    dx : float32 array, shape (inputs, 16)
        Gradients of activations, added to if `inputs_too`.
    rate, momentum, decay : float
        Rate, momentum and decay of the step.
    inputs_too : bool
        The first layer needs no gradient of its inputs.
    """
    rows, fan_in = indices.shape
    flat = indices.reshape(rows * fan_in)
    end = rows * fan_in - 1
    s, r, mu, d = np.float32(slope), np.float32(rate), np.float32(momentum), np.float32(decay)
    for i in range(rows):
        bias[i] -= r * sum_line(dz, i)
        for q in range(fan_in):
            ahead = flat[min(i * fan_in + q + AHEAD, end)]
            prefetch_line(x, ahead)
            if inputs_too:
                prefetch_line(dx, ahead)
            j, w = indices[i, q], weights[i, q]
            m = mu * momenta[i, q] - r * dot_activated(dz, i, x, j, s)
            if inputs_too:
                add_scaled(dx, j, w, dz, i)
            momenta[i, q] = m
            weights[i, q] = w + m - d * w


@_jit
def to_gradients(z: Floats, dx: Floats, slope: float) -> None:
    """Replace sums by their gradients, from those of the activations, which become zero.

    Parameters
    ----------
    z : float32 array, shape (neurons, 16)
        Sums; changed.
    dx : float32 array, shape (neurons, 16)
        Gradients of activations; zero afterwards.
    slope : float
        Slope of the activation.
    """
    s = np.float32(slope)
    for i in range(z.shape[0]):
        for b in range(z.shape[1]):
            z[i, b] = dx[i, b] * (np.float32(1) if z[i, b] > 0 else s)
            dx[i, b] = 0
