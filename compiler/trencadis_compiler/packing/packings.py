"""The packings of one layer, each searched once, on whatever engine the layer is tried."""

import math
from collections.abc import Callable

import numpy as np

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.tiles import FULL_EFFORT, Effort, Packing, Search, fewest_tiles

__all__ = ["Packings"]

SAMPLE = 512
"""Kernels whose packing says how the packing of many more would come out."""

MANY = 2 * SAMPLE
"""Kernels up to which all are packed at once."""


class Packings:
    """The packings of a layer.

    Parameters
    ----------
    occupancy : Occupancy
        Where the kernels of the layer have non-zeros.
    effort : Effort
        How long to search for better packings than the first.
    progress : callable
        Called now and then during long searches.
    """

    def __init__(
        self,
        occupancy: Occupancy,
        effort: Effort = FULL_EFFORT,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.occupancy = occupancy
        self._effort = effort
        self._progress = progress
        self._bounds: dict[tuple[int, int], int] = {}
        self._searches: dict[tuple[int, int], Search] = {}
        self._found: dict[tuple[int, int], Packing] = {}
        self._improved: set[tuple[int, int]] = set()
        self._sampled: Packings | None = None

    @property
    def many(self) -> bool:
        """There are so many kernels that packings are estimated before they are searched."""
        return self.occupancy.kernels > MANY

    def fewest_tiles(self, kernels_per_tile: int, depth: int) -> int:
        """A lower bound on the number of tiles."""
        key = kernels_per_tile, depth
        if key not in self._bounds:
            self._bounds[key] = fewest_tiles(self.occupancy, *key)
        return self._bounds[key]

    def expected_tiles(self, kernels_per_tile: int, depth: int) -> int:
        """The number of tiles that a search would find, about.

        Of many kernels a sample is packed. Of depth 1 all are: sets that were trained not to
        collide come apart in a sample.
        """
        bound = self.fewest_tiles(kernels_per_tile, depth)
        if not self.many:
            return bound
        if depth == 1:
            return len(self.first(kernels_per_tile, depth).tiles)
        if self._sampled is None:
            self._sampled = self._sample()
        sampled = len(self._sampled.first(kernels_per_tile, depth).tiles)
        return max(bound, math.floor(sampled * self.occupancy.kernels / SAMPLE))

    def first(self, kernels_per_tile: int, depth: int) -> Packing:
        """A packing that is found quickly."""
        key = kernels_per_tile, depth
        if key not in self._found:
            self._progress()
            self._found[key] = self._same_as_wider(key) or self._searched(key).packing
        return self._found[key]

    def best(self, kernels_per_tile: int, depth: int) -> Packing:
        """Kernels in as few tiles as the search finds."""
        key = kernels_per_tile, depth
        if key not in self._improved:
            search = self._searched(key)
            search.improve(self._effort, progress=self._progress)
            self._found[key] = search.packing
            self._improved.add(key)
        return self._found[key]

    def _searched(self, key: tuple[int, int]) -> Search:
        if key not in self._searches:
            self._searches[key] = Search(self.occupancy, *key)
        return self._searches[key]

    def _same_as_wider(self, key: tuple[int, int]) -> Packing | None:
        """A packing with a looser limit on kernels that keeps this one: the search is the same."""
        limit, depth = key
        for (wider, other_depth), search in self._searches.items():
            if other_depth == depth and wider > limit > 1:
                found = search.first_packing
                if found.kernels_per_tile <= limit:
                    return found
        return None

    def _sample(self) -> "Packings":
        """The packings of some of the kernels, taken evenly."""
        kernels = np.linspace(0, self.occupancy.kernels - 1, SAMPLE).astype(np.int64)
        return Packings(self.occupancy.part(kernels), self._effort, self._progress)
