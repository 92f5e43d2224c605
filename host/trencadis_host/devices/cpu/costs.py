"""Costs of units on this processor, relative to each other."""

from dataclasses import dataclass

__all__ = ["DEFAULT_COSTS", "Costs"]


@dataclass(frozen=True)
class Costs:
    """Times of kernels, in those of a sparse unit.

    Attributes
    ----------
    dense : float
        Time of a dense unit.
    tile : float
        Time of a product of two tiles.
    group : float
        Time of a group of weights with samples in lanes, per window and sample.
    kernel : float
        Time of what a kernel takes besides, per tile of windows and sample.
    column : float
        Time of two columns of a block of kernels.
    """

    dense: float
    tile: float = 16.0
    group: float = 0.125
    kernel: float = 3.0
    column: float = 1.0


DEFAULT_COSTS = Costs(dense=0.7)
