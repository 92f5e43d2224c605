"""Bytes for activations, 8 bits for weights: the grids of the hardware, chosen and trained with.

Weights have a scale for each output, activations one with a zero point for each layer. While
training on integers, values are rounded and gradients pass as if they were not (straight through).
"""

from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.topologies.topology import Topology

__all__ = ["ByteGrid", "HiddenGrids", "round_activations", "rounded_weights", "weight_scales"]

Floats = npt.NDArray[np.float32]

MAX_BYTE = 255
MAX_WEIGHT = 127
MAX_BIAS = float(1 << 30)

CLIPS = np.linspace(0.2, 1.0, 41)
"""Parts of the range at which clipping is tried."""

SAMPLES = 200_000

MARGIN = 0.1
"""Room beside outputs on both sides, for inputs that calibration has not seen."""


@dataclass(frozen=True)
class ByteGrid:
    """Quantisation of a tensor to bytes: real = scale * (byte - zero)."""

    scale: float
    zero: int

    @classmethod
    def covering(cls, values: Floats) -> Self:
        """A grid that holds all values with a margin."""
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        margin = MARGIN * (high - low)
        return cls._of(low - margin if low else 0.0, high + margin)

    @classmethod
    def fitted(cls, values: Floats) -> Self:
        """The grid with the least squared error, of those that clip both ends alike."""
        flat = values.ravel()
        chosen = flat[:: max(1, flat.size // SAMPLES)].astype(np.float64)
        low, high = min(0.0, float(chosen.min())), max(0.0, float(chosen.max()))
        grids = [cls._of(clip * low, clip * high) for clip in CLIPS]
        errors = [np.square(grid.real(grid.bytes_of(chosen)) - chosen).sum() for grid in grids]
        return grids[int(np.argmin(errors))]

    @classmethod
    def _of(cls, low: float, high: float) -> Self:
        scale = float(np.float32(max(high - low, 1e-6) / MAX_BYTE))
        return cls(scale, min(max(round(-low / scale), 0), MAX_BYTE))

    def bent(self, slope: float) -> Self:
        """The grid of what a leaky ReLU makes of this one: sums above zero keep their steps.

        With another scale they would be rounded a second time.
        """
        return type(self)(self.scale, round(max(slope, 0.0) * self.zero))

    def bytes_of(self, real: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Bytes of real numbers, half to even, as float64."""
        steps = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero
        return np.clip(steps, 0, MAX_BYTE)

    def real(self, steps: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
        """Real numbers of bytes."""
        return (np.asarray(steps, np.float64) - self.zero) * self.scale


@dataclass(frozen=True)
class HiddenGrids:
    """Grids of a hidden layer."""

    output: ByteGrid
    """Quantisation of its activations."""
    sums: ByteGrid | None = None
    """Quantisation of its sums, where the hardware's activation is a table from bytes to bytes."""


def weight_scales(topology: Topology, weights: Floats, bias: Floats, input_scale: float) -> Floats:
    """A scale for each output: its largest weight becomes 127, and its bias fits 32 bits."""
    largest = np.zeros(topology.outputs, np.float32)
    rows = np.flatnonzero(topology.fan_in())
    if len(rows):
        largest[rows] = np.maximum.reduceat(np.abs(weights), topology.pointers[rows])
    scale = np.maximum(largest / MAX_WEIGHT, np.abs(bias) / (input_scale * MAX_BIAS))
    return np.maximum(scale, 1e-9).astype(np.float32)


def rounded_weights(topology: Topology, weights: Floats, scales: Floats) -> Floats:
    """Integers -127..127 of weights, as float32."""
    steps = weights / np.repeat(scales, topology.fan_in())
    return np.clip(np.rint(steps), -MAX_WEIGHT, MAX_WEIGHT).astype(np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def round_activations(a: Floats, factor: Floats, scale: float, zero: int) -> None:
    """Round activations to a grid in place; the factor is 0 where they are clipped.

    Parameters
    ----------
    a, factor : float32 array, shape (neurons, batch)
        A and factor from `activations.activate`.
    scale, zero : float, int
        Scale and zero of the grid.
    """
    s, low = np.float32(scale), np.float32(-zero)
    inverse, high = np.float32(1 / scale), np.float32(MAX_BYTE - zero)
    for i in range(a.shape[0]):
        for b in range(a.shape[1]):
            step = np.rint(a[i, b] * inverse)
            if step < low:
                step = low
                factor[i, b] = 0
            elif step > high:
                step = high
                factor[i, b] = 0
            a[i, b] = step * s
