"""Compiled loops over connections. Activations are feature-major: (features, batch) float32.

With the batch contiguous a connection is one multiply-add of two contiguous rows, which vector
units do at the rate at which caches deliver the rows; with the features contiguous it is a gather
of single numbers, which takes about ten times as long. A batch is done in tiles whose sums stay in
registers; what is left of it is done in smaller tiles, then one by one.

Every function takes the arrays of `Topology` and `Columns` and is released from Python's lock.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.loops.activations import activate_row, scale_row
from trencadis_train.sparse.loops.tiles import (
    PAIR,
    TILE,
    backward_pair,
    backward_tile,
    forward_pair,
    forward_tile,
    weights_pair,
    weights_tile,
)

__all__ = [
    "apply_momentum",
    "backward",
    "backward_activated",
    "backward_weights",
    "forward",
    "forward_activated",
    "gradient_at",
    "load_batch",
    "squared_norm",
]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.signedinteger[Any]]

_jit = numba.njit(
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz", "arcp"},  # NaN and infinity must stay what they are
    error_model="numpy",
    boundscheck=False,
)


@_jit
def _forward_row(
    indptr: Indices, indices: Indices, weights: Floats, bias: Floats, x: Floats, z: Floats, i: int
) -> None:
    start, stop, first = indptr[i], indptr[i + 1], bias[i]
    batch = x.shape[1]
    b = 0
    while b + TILE <= batch:
        forward_tile(indices, weights, start, stop, first, x, z, i, b)
        b += TILE
    while b + PAIR <= batch:
        forward_pair(indices, weights, start, stop, first, x, z, i, b)
        b += PAIR
    while b < batch:
        total = first
        for p in range(start, stop):
            total += weights[p] * x[indices[p], b]
        z[i, b] = total
        b += 1


@_jit
def forward(
    indptr: Indices, indices: Indices, weights: Floats, bias: Floats, x: Floats, z: Floats
) -> None:
    """Compute `z = weights @ x + bias`.

    Parameters
    ----------
    indptr, indices : integer array
        Connections of every output (CSR).
    weights : float32 array, shape (connections,)
        Weights, in the order of `indices`.
    bias : float32 array, shape (outputs,)
        Added to every sum.
    x : float32 array, shape (inputs, batch)
        Inputs.
    z : float32 array, shape (outputs, batch)
        Written.
    """
    for i in range(len(indptr) - 1):
        _forward_row(indptr, indices, weights, bias, x, z, i)


@_jit
def forward_activated(
    indptr: Indices,
    indices: Indices,
    weights: Floats,
    bias: Floats,
    x: Floats,
    a: Floats,
    factor: Floats,
    slope: float,
    dropout: float,
    seed: int,
) -> None:
    """Do what `forward` and `activations.activate` do, row by row while they are in the cache."""
    for i in range(len(indptr) - 1):
        _forward_row(indptr, indices, weights, bias, x, a, i)
        activate_row(a, factor, i, slope, dropout, np.uint32(seed))


@_jit
def _backward_row(
    column_pointers: Indices,
    rows: Indices,
    places: Indices,
    weights: Floats,
    x: Floats,
    dz: Floats,
    dx: Floats,
    dw: Floats,
    j: int,
) -> None:
    start, stop = column_pointers[j], column_pointers[j + 1]
    batch = x.shape[1]
    b = 0
    while b + TILE <= batch:
        backward_tile(rows, places, weights, start, stop, x, dz, dx, dw, j, b)
        b += TILE
    while b + PAIR <= batch:
        backward_pair(rows, places, weights, start, stop, x, dz, dx, dw, j, b)
        b += PAIR
    while b < batch:
        back = np.float32(0)
        for p in range(start, stop):
            g = dz[rows[p], b]
            back += weights[places[p]] * g
            dw[places[p]] += x[j, b] * g
        dx[j, b] = back
        b += 1


@_jit
def backward(
    column_pointers: Indices,
    rows: Indices,
    places: Indices,
    weights: Floats,
    x: Floats,
    dz: Floats,
    dx: Floats,
    dw: Floats,
) -> None:
    """Compute the gradients of inputs and weights in one pass over the connections.

    Parameters
    ----------
    column_pointers, rows, places : integer array
        Connections of every input (CSC), and where their weights lie.
    weights : float32 array, shape (connections,)
        Weights, in the order of the outputs (CSR).
    x : float32 array, shape (inputs, batch)
        Inputs of the layer.
    dz : float32 array, shape (outputs, batch)
        Gradient of the sums.
    dx : float32 array, shape (inputs, batch)
        Written.
    dw : float32 array, shape (connections,)
        Written.
    """
    dw[:] = 0
    for j in range(len(column_pointers) - 1):
        _backward_row(column_pointers, rows, places, weights, x, dz, dx, dw, j)


@_jit
def backward_activated(
    column_pointers: Indices,
    rows: Indices,
    places: Indices,
    weights: Floats,
    x: Floats,
    dz: Floats,
    dx: Floats,
    dw: Floats,
    factor: Floats,
    sums: Floats,
) -> None:
    """Do what `backward` does, through the activation of the layer before.

    Parameters
    ----------
    column_pointers, rows, places, weights, x, dz, dx, dw
        As in `backward`, but that `dx` is the gradient of the sums of the layer before.
    factor : float32 array, shape (inputs, batch)
        Factor of that activation.
    sums : float32 array, shape (inputs,)
        Written: sums of `dx` over the batch.
    """
    dw[:] = 0
    for j in range(len(column_pointers) - 1):
        _backward_row(column_pointers, rows, places, weights, x, dz, dx, dw, j)
        sums[j] = scale_row(dx, factor, j)


@_jit
def backward_weights(
    column_pointers: Indices,
    rows: Indices,
    places: Indices,
    weights: Floats,
    x: Floats,
    dz: Floats,
    dw: Floats,
) -> None:
    """Compute the gradients of weights alone: inputs of a network need none.

    Parameters are those of `backward`.
    """
    batch = x.shape[1]
    dw[:] = 0
    for j in range(len(column_pointers) - 1):
        start, stop = column_pointers[j], column_pointers[j + 1]
        b = 0
        while b + TILE <= batch:
            weights_tile(rows, places, weights, start, stop, x, dz, x, dw, j, b)
            b += TILE
        while b + PAIR <= batch:
            weights_pair(rows, places, weights, start, stop, x, dz, x, dw, j, b)
            b += PAIR
        while b < batch:
            for p in range(start, stop):
                dw[places[p]] += x[j, b] * dz[rows[p], b]
            b += 1


@_jit
def gradient_at(rows: Indices, columns: Indices, x: Floats, dz: Floats, out: Floats) -> None:
    """Gradient of weights at places that need not be connections.

    Parameters
    ----------
    rows, columns : integer array, shape (places,)
        Output and input of every place.
    x : float32 array, shape (inputs, batch)
        Inputs of the layer.
    dz : float32 array, shape (outputs, batch)
        Gradient of the sums.
    out : float32 array, shape (places,)
        Written.
    """
    for p in range(len(rows)):
        a, g = x[columns[p]], dz[rows[p]]
        s = np.float32(0)
        for b in range(x.shape[1]):
            s += a[b] * g[b]
        out[p] = s


@_jit
def apply_momentum(
    weights: Floats,
    momenta: Floats,
    gradients: Floats,
    rate: float,
    momentum: float,
    decay: float,
    scale: float,
) -> None:
    """Step of SGD with momentum, in place: `m = momentum m - rate scale g; w = w + m - decay w`."""
    r, mu, d = np.float32(rate * scale), np.float32(momentum), np.float32(decay)
    for p in range(len(weights)):
        m = mu * momenta[p] - r * gradients[p]
        momenta[p] = m
        weights[p] += m - d * weights[p]


@_jit
def squared_norm(values: Floats) -> float:
    """Sum of squares, in float64."""
    total = 0.0
    for value in values:
        total += np.float64(value) * np.float64(value)
    return total


@_jit
def load_batch(
    examples: npt.NDArray[np.uint8],
    chosen: npt.NDArray[np.int64],
    mean: Floats,
    inverse: Floats,
    x: Floats,
) -> None:
    """Write examples feature-major and standardised: `x = (example - mean) inverse`.

    Parameters
    ----------
    examples : uint8 array, shape (examples, features)
        All of them.
    chosen : int64 array, shape (batch,)
        Which.
    mean, inverse : float32 array, shape (features,)
        Subtracted, then multiplied with.
    x : float32 array, shape (features, batch)
        Written.
    """
    for first in range(0, x.shape[0], 64):  # a cache line of bytes of every example
        last = min(first + 64, x.shape[0])
        for b in range(x.shape[1]):
            row = examples[chosen[b]]
            for j in range(first, last):
                x[j, b] = (np.float32(row[j]) - mean[j]) * inverse[j]
