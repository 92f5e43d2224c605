"""Cycles that the layers of a map engine take, by their fetches, products and sums."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trencadis_compiler.maps.emit import layer_records, output_rows
from trencadis_compiler.maps.place import LayerShape, MapPlacement
from trencadis_format.map_program import map_reads

__all__ = ["LayerCycles", "arrival_cycles", "layer_cycles"]

OVERHEAD = 34
"""Cycles of a layer beside its work: from its first fetch to its last row, and to the next one."""


@dataclass(frozen=True)
class LayerCycles:
    """Cycles of a layer, by cause.

    Attributes
    ----------
    fetches, products, beats : float
        Cycles of reading rows, of the lane with the most values, and of draining sums.
    useful : float
        Multiplications of weights and activations of which neither is zero.
    played : float
        Cycles on given data; 0 if there are none.
    """

    fetches: float
    products: float
    beats: float
    useful: float
    played: float = 0.0

    @property
    def cycles(self) -> float:
        """Cycles of the layer: those on given data, or else the slowest part hides the others."""
        if self.played:
            return self.played
        return max(self.fetches, self.products, self.beats) + OVERHEAD

    @property
    def limits(self) -> dict[str, float]:
        """Cycles by what could bound it."""
        return {"multiplying": self.products, "reading": self.fetches, "sums": self.beats}

    @property
    def limit(self) -> str:
        """The cause that takes most of its cycles."""
        return max(self.limits, key=lambda name: self.limits[name])


def layer_cycles(placement: MapPlacement, density: Mapping[str, float]) -> tuple[LayerCycles, ...]:
    """Cycles of every step; `density` tells the part of a map's values that is not zero."""
    found = []
    for step, shape, fields in zip(
        placement.network.steps, placement.shapes, layer_records(placement), strict=True
    ):
        inside = map_reads(fields).inside
        passes, steps = fields["passes"] + 1, len(inside) * (fields["passes"] + 1)
        added = steps * (fields["step_rows"] + 1) * fields["add"]
        if shape is None:
            found.append(LayerCycles(inside.size * passes + added, 0, 0, 0))
            continue
        slots = int(inside.sum())
        fetches = passes * (slots * (fields["rows"] + 1) + inside.size - slots) + added
        share = density.get(step.source, 1.0)
        lanes = np.bincount(shape.places % shape.config.lanes, minlength=shape.config.lanes)
        walked = slots * (1 if shape.by_row else passes) * shape.depth * int(lanes.max())
        beats = steps * shape.beats * (shape.config.raw_rows if step.raw else 1)
        found.append(
            LayerCycles(float(fetches), walked * share, float(beats), _useful(shape, inside, share))
        )
    return tuple(found)


def _useful(shape: LayerShape, inside: np.ndarray, share: float) -> float:
    """Products of weights that are not zero, positions in the padding left out."""
    slot = shape.weights.places % shape.weights.window
    each = np.bincount(slot, minlength=shape.weights.window)
    return float((inside.sum(axis=0) * each).sum()) * share


def arrival_cycles(placement: MapPlacement, bus_bytes: int) -> float:
    """Cycles of a sample's arrival and leaving."""
    channels, rows, columns = placement.network.input.shape
    _, count = output_rows(placement)
    pieces = max(1, placement.config.row_values // bus_bytes)
    return channels * rows * columns + count * (pieces + 3) + 8
