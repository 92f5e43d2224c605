"""Overlaying sparse kernels in tiles.

A tile holds kernels whose non-zeros do not collide, so that one row of weights serves them all.
Which kernels fit together is found, not assumed: kernels are the nodes of a graph with an edge
where two collide, and tiles are the colours of a colouring of it. Networks trained with
complementary masks fall into perfect tiles; for other sparsity a tile may be given `depth` rows of
weights for every input, and takes as many colliding non-zeros.

A first packing is quick: tiles of depth 1 are grown (`grow`), deeper ones filled greedily
(`greedy`); thousands of kernels go into the first tile that takes them (`first_fit`). What needs
more tiles than the bound can be improved by iterated greedy (Culberson 1992): taking the kernels
again, tile by tile in another order, never needs more tiles. At last an exact cover is tried.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.cover import full_tiles
from trencadis_compiler.packing.first_fit import MANY_KERNELS, first_fit
from trencadis_compiler.packing.greedy import greedy
from trencadis_compiler.packing.grow import grow_tiles

__all__ = [
    "FULL_EFFORT",
    "Effort",
    "Packing",
    "Search",
    "even_packing",
    "fewest_tiles",
    "pack",
]

FULL = 0.9
"""Mean filling of tiles from which an exact cover is worth a try."""

COVER_ATTEMPTS = 10
COVER_NODES = 20_000
"""Attempts at an exact cover, and nodes of the search in each."""


@dataclass(frozen=True)
class Effort:
    """Bounds on iterated greedy.

    Attributes
    ----------
    rounds : int
        Most rounds after the last improvement.
    moves : int
        Most kernels moved after the last improvement.
    total_moves : int
        Most kernels moved in all.
    """

    rounds: int = 60
    moves: int = 30_000
    total_moves: int = 300_000

    def shared(self, layers: int) -> "Effort":
        """The effort for each of some layers, so that networks of many layers take no hours."""
        share = max(1, layers) / LAYERS_WITH_FULL_EFFORT
        if share <= 1:
            return self
        return Effort(self.rounds, int(self.moves / share), int(self.total_moves / share))


FULL_EFFORT = Effort()

LAYERS_WITH_FULL_EFFORT = 12
"""Layers of a network up to which each is packed with full effort."""


@dataclass(frozen=True)
class Packing:
    """Kernels in tiles.

    Attributes
    ----------
    tiles : tuple of tuples of int
        The kernels of every tile.
    depth : int
        Weight rows every tile needs for an input row.
    """

    tiles: tuple[tuple[int, ...], ...]
    depth: int

    @cached_property
    def count(self) -> int:
        """Tiles."""
        return len(self.tiles)

    @cached_property
    def kernels_per_tile(self) -> int:
        """Kernels in the fullest tile."""
        return max(len(tile) for tile in self.tiles)


@functools.lru_cache(maxsize=1 << 12)
def even_packing(kernels: int, tiles: int, depth: int) -> Packing:
    """Kernels dealt to so many tiles, wherever their non-zeros are: for bounds."""
    even = (tuple(range(i, kernels, tiles)) for i in range(min(tiles, kernels)))
    return Packing(tuple(even), depth)


def fewest_tiles(occupancy: Occupancy, kernels_per_tile: int, depth: int = 1) -> int:
    """A lower bound on the number of tiles."""
    return max(
        1,
        math.ceil(occupancy.kernels / kernels_per_tile),
        math.ceil(occupancy.most_per_row / depth),
        math.ceil(occupancy.nonzeros / (depth * occupancy.rows)),
    )


def pack(
    occupancy: Occupancy,
    kernels_per_tile: int,
    *,
    depth: int = 1,
    seed: int = 0,
    effort: Effort = FULL_EFFORT,
) -> Packing:
    """Overlay kernels in as few tiles as the search finds.

    Parameters
    ----------
    occupancy : Occupancy
        Where the kernels have non-zeros.
    kernels_per_tile : int
        Most kernels in a tile.
    depth : int
        Most non-zeros of a tile in a row.
    seed : int
        Seed of the search; the same seed gives the same tiles.
    effort : Effort
        How long the search goes on.

    Returns
    -------
    Packing
        Tiles with their kernels in ascending order, tiles ordered by their first kernel.
    """
    search = Search(occupancy, kernels_per_tile, depth)
    search.improve(effort, seed=seed)
    return search.packing


class Search:
    """A packing that is found quickly at first, and can be improved.

    Parameters
    ----------
    occupancy : Occupancy
        Where the kernels have non-zeros.
    kernels_per_tile : int
        Most kernels in a tile.
    depth : int
        Most non-zeros of a tile in a row.

    Attributes
    ----------
    first_packing : Packing
        What was found quickly.

    Raises
    ------
    ValueError
        If `kernels_per_tile` or `depth` is not positive.
    """

    def __init__(self, occupancy: Occupancy, kernels_per_tile: int, depth: int) -> None:
        if depth < 1 or kernels_per_tile < 1:
            raise ValueError(
                f"depth and kernels_per_tile must be positive, not {depth}, {kernels_per_tile}"
            )
        self._occupancy = occupancy
        self._kernels_per_tile = kernels_per_tile
        self._depth = depth
        self._bound = fewest_tiles(occupancy, kernels_per_tile, depth)
        self._many = occupancy.kernels > MANY_KERNELS
        if kernels_per_tile == 1:
            self._tiles = [[kernel] for kernel in range(occupancy.kernels)]
        elif depth == 1 and not self._many:
            self._tiles = grow_tiles(occupancy.collide, kernels_per_tile)
        else:
            largest_first = np.argsort(-occupancy.sizes, kind="stable").tolist()
            self._tiles = self._filled(largest_first)
        self.first_packing = self.packing

    @property
    def packing(self) -> Packing:
        """The best packing so far."""
        tiles = sorted(tuple(sorted(tile)) for tile in self._tiles)
        return Packing(tuple(tiles), self._depth)

    @property
    def perfect(self) -> bool:
        """No packing has fewer tiles."""
        return len(self._tiles) <= self._bound or (
            self._depth == 1 and not self._many and self._occupancy.all_collide
        )

    def _filled(self, order: list[int]) -> list[list[int]]:
        """Tiles filled with the kernels in this order."""
        fill = first_fit if self._many else greedy
        return fill(self._occupancy, order, self._kernels_per_tile, self._depth)

    def improve(
        self, effort: Effort, *, seed: int = 0, progress: Callable[[], None] = lambda: None
    ) -> None:
        """Search for a packing in fewer tiles."""
        occupancy, limit, depth = self._occupancy, self._kernels_per_tile, self._depth
        rng = np.random.default_rng(seed)
        kernels = occupancy.kernels
        rounds = min(effort.rounds, math.ceil(effort.moves / kernels))
        left = math.ceil(effort.total_moves / kernels)
        tiles = self._tiles
        since_better = 0
        while not self.perfect and since_better < rounds and left:
            progress()
            order = [kernel for i in _next_order(tiles, since_better, rng) for kernel in tiles[i]]
            again = self._filled(order)
            since_better = 0 if len(again) < len(tiles) else since_better + 1
            self._tiles = tiles = again
            left -= 1
        if self.perfect or self._many:
            return
        if depth == 1 and _may_fill(occupancy, limit, self._bound):
            covered = _cover(occupancy, limit, self._bound, rng)
            self._tiles = min(tiles, covered, key=len)


def _next_order(tiles: list[list[int]], round_: int, rng: np.random.Generator) -> list[int]:
    """An order of tiles for the next round: reversed, largest first, or at random."""
    numbers = list(range(len(tiles)))
    if round_ % 3 == 0:
        return numbers[::-1]
    if round_ % 3 == 1:
        return sorted(numbers, key=lambda i: -len(tiles[i]))
    return list(rng.permutation(numbers))


def _may_fill(occupancy: Occupancy, kernels_per_tile: int, bound: int) -> bool:
    """Tell whether there are enough non-zeros for nearly all tiles to be full."""
    largest = int(occupancy.sizes.max(initial=0))
    return (
        kernels_per_tile * largest >= occupancy.rows
        and occupancy.nonzeros >= FULL * bound * occupancy.rows
    )


def _cover(
    occupancy: Occupancy, kernels_per_tile: int, bound: int, rng: np.random.Generator
) -> list[list[int]]:
    """Full tiles as far as they are found, the rest packed greedily; the best of some attempts."""
    best = [[kernel] for kernel in range(occupancy.kernels)]
    for _ in range(COVER_ATTEMPTS):
        order = [int(kernel) for kernel in rng.permutation(occupancy.kernels)]
        tiles = full_tiles(occupancy, order, kernels_per_tile, COVER_NODES)
        left = set(order).difference(*tiles)
        tiles += greedy(occupancy, sorted(left), kernels_per_tile, 1)
        best = min(best, tiles, key=len)
        if len(best) <= bound:
            break
    return best
