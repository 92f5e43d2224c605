"""Compiled loops of sparse convolutions: rows of windows are read where they lie.

Maps are position-major with the batch contiguous: (channels * padded rows * padded columns, batch).
Moving a window by a position adds the same number to the places of all its inputs, so im2col rows
need not be copied: a connection is a place in the first window plus where the window stands.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["convolve_backward", "convolve_forward"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.signedinteger[Any]]

_jit = numba.njit(
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz", "arcp"},
    error_model="numpy",
    boundscheck=False,
)


@_jit
def convolve_forward(
    pointers: Indices,
    places: Indices,
    weights: Floats,
    bias: Floats,
    x: Floats,
    starts: Indices,
    z: Floats,
) -> None:
    """Compute the sums of all windows.

    Parameters
    ----------
    pointers : integer array, shape (kernels + 1,)
        Where the connections of every kernel begin.
    places : integer array, shape (connections,)
        Places of their inputs in the first window.
    weights : float32 array, shape (connections,)
        Theirs.
    bias : float32 array, shape (kernels,)
        Added.
    x : float32 array, shape (padded inputs, batch)
        Maps.
    starts : integer array, shape (positions,)
        Where the windows stand.
    z : float32 array, shape (kernels * positions, batch)
        Written.
    """
    batch, positions = x.shape[1], len(starts)
    for n in range(positions):
        start = starts[n]
        for i in range(len(pointers) - 1):
            out = z[i * positions + n]
            for b in range(batch):
                out[b] = bias[i]
            p, stop = pointers[i], pointers[i + 1]
            while p + 4 <= stop:
                w0, w1, w2, w3 = weights[p], weights[p + 1], weights[p + 2], weights[p + 3]
                x0, x1 = x[start + places[p]], x[start + places[p + 1]]
                x2, x3 = x[start + places[p + 2]], x[start + places[p + 3]]
                for b in range(batch):
                    out[b] += (w0 * x0[b] + w1 * x1[b]) + (w2 * x2[b] + w3 * x3[b])
                p += 4
            while p < stop:
                w0, x0 = weights[p], x[start + places[p]]
                for b in range(batch):
                    out[b] += w0 * x0[b]
                p += 1


@_jit
def convolve_backward(
    pointers: Indices,
    places: Indices,
    weights: Floats,
    x: Floats,
    starts: Indices,
    dz: Floats,
    dx: Floats,
    dw: Floats,
    *,
    inputs_too: bool,
) -> None:
    """Add the gradients of inputs and weights to `dx` and `dw`.

    Parameters
    ----------
    pointers, places, weights, x, starts
        As in `convolve_forward`.
    dz : float32 array, shape (kernels * positions, batch)
        Gradients of the sums.
    dx : float32 array, shape (padded inputs, batch)
        Added to if `inputs_too`.
    dw : float32 array, shape (connections,)
        Added to.
    inputs_too : bool
        Whether gradients of inputs are wanted.
    """
    batch, positions = x.shape[1], len(starts)
    for n in range(positions):
        start = starts[n]
        for i in range(len(pointers) - 1):
            g = dz[i * positions + n]
            p, stop = pointers[i], pointers[i + 1]
            while p + 2 <= stop:
                j0, j1 = start + places[p], start + places[p + 1]
                w0, w1, x0, x1 = weights[p], weights[p + 1], x[j0], x[j1]
                s0 = s1 = np.float32(0)
                if inputs_too:
                    d0, d1 = dx[j0], dx[j1]
                    for b in range(batch):
                        v = g[b]
                        d0[b] += w0 * v
                        d1[b] += w1 * v
                        s0 += v * x0[b]
                        s1 += v * x1[b]
                else:
                    for b in range(batch):
                        s0 += g[b] * x0[b]
                        s1 += g[b] * x1[b]
                dw[p] += s0
                dw[p + 1] += s1
                p += 2
            while p < stop:
                j0 = start + places[p]
                w0, x0 = weights[p], x[j0]
                s0 = np.float32(0)
                for b in range(batch):
                    s0 += g[b] * x0[b]
                if inputs_too:
                    d0 = dx[j0]
                    for b in range(batch):
                        d0[b] += w0 * g[b]
                dw[p] += s0
                p += 1
