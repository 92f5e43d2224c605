"""Tiles of a layer, whichever kind of engine it is on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.mapping.place import Placement
from trencadis_compiler.maps.place import LayerShape, MapPlacement

__all__ = ["Tiling", "tilings_of"]


@dataclass(frozen=True)
class Tiling:
    """Kernels of a layer, and the tiles that they share.

    Attributes
    ----------
    name : str
        Name of the layer.
    weights : Kernels
        Its kernels.
    tiles : sequence of int arrays
        Numbers of every tile's kernels: the first one has kernel ID 0 in that tile.
    depth : int
        Weight rows that each input has in a tile: over 1 where weights collide.
    kernels_per_tile : int
        Most kernels of a tile.
    """

    name: str
    weights: Kernels
    tiles: Sequence[npt.NDArray[np.int64] | Sequence[int]]
    depth: int
    kernels_per_tile: int

    @property
    def rows(self) -> int:
        """Rows of weights of all tiles."""
        return len(self.tiles) * self.depth

    @property
    def places(self) -> int:
        """Places for weights, holes included."""
        return self.rows * self.weights.length


def tilings_of(placement: Placement | MapPlacement) -> list[Tiling]:
    """Tilings of the layers of a placement, in order."""
    if isinstance(placement, MapPlacement):
        return [
            _of_shape(step.name, shape)
            for step, shape in zip(placement.network.steps, placement.shapes, strict=True)
            if shape is not None
        ]
    plans = [placed.plan for placed in placement.layers]
    return [
        Tiling(
            plan.layer.name,
            plan.layer.weights,
            plan.packing.tiles,
            plan.packing.depth,
            plan.packing.kernels_per_tile,
        )
        for plan in plans
    ]


def _of_shape(name: str, shape: LayerShape) -> Tiling:
    """Tiles of a layer on a map engine: in every pass, kernels that are `tiles` apart share one."""
    weights, width = shape.weights, shape.config.tiles
    tiles = [
        np.arange(start + tile, min(start + shape.pass_places, len(weights)), width)
        for start in range(0, shape.places_of_kernels, shape.pass_places)
        for tile in range(width)
    ]
    return Tiling(name, weights, tiles, shape.depth, shape.beats)
