"""Placement of a network on a map engine: its maps in the map memory, its layers on the array."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.maps.network import MapNetwork, MapStep, MapValue
from trencadis_format.map_config import MAX_STEP_ROWS, MapConfig

__all__ = ["LayerShape", "MapAddress", "MapPlacement", "place_maps"]

Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MapAddress:
    """Rows of a map.

    Attributes
    ----------
    base : int
        The first one.
    rows : int
        Rows of a position.
    step : int
        Rows from position to position: more, if the map is a part of another.
    places : int64 array, shape (channels,)
        The place of every channel among the keys of a position.
    """

    base: int
    rows: int
    step: int
    places: Array


@dataclass(frozen=True)
class LayerShape:
    """Spread of the kernels of a layer over passes, beats and tiles.

    Kernel k has the place k: pass, beat and tile one after the other.

    Attributes
    ----------
    config : MapConfig
        The engine.
    weights : Kernels
        The kernels.
    places : int64 array, shape (channels,)
        Places of the map that is read.
    rows : int
        Rows of a position of the map that is read.
    passes, beats : int
        Passes over a window, beats of a pass.
    by_row : bool
        A pass reads one row of channels: the kernels of a pass have no other weights.
    depth : int
        Weight rows of a value: most weights that a tile has for it.
    """

    config: MapConfig
    weights: Kernels
    places: Array
    rows: int
    passes: int
    beats: int
    by_row: bool
    depth: int

    @classmethod
    def of(cls, step: MapStep, source: MapAddress, config: MapConfig) -> "LayerShape":
        """The shape with the fewest passes, but one pass per row of channels for depthwise ones."""
        assert step.layer is not None
        weights = step.layer.weights
        rows = -(-len(weights) // config.row_values)
        most = min(config.kernels_per_tile // config.row_beats, MAX_STEP_ROWS)
        if step.raw:
            most = min(most, max(1, MAX_STEP_ROWS // (config.raw_rows * config.row_beats)))
        # All passes have as many rows, and none is empty.
        pass_rows = next(count for count in range(most, 0, -1) if rows % count == 0)
        passes, beats = rows // pass_rows, pass_rows * config.row_beats
        shape = cls(config, weights, source.places, source.rows, passes, beats, False, 1)
        if source.rows > 1:
            single = cls(
                config, weights, source.places, source.rows, source.rows, config.row_beats, True, 1
            )
            if source.rows == rows and single._one_row:
                shape = single
        counts = np.bincount(shape._of_tile) if weights.nonzeros else np.array([1])
        return replace(shape, depth=int(counts.max()))

    @property
    def pass_places(self) -> int:
        """Kernels of a pass."""
        return self.beats * self.config.tiles

    @property
    def places_of_kernels(self) -> int:
        """Places of all kernels, those without one included."""
        return self.passes * self.pass_places

    @property
    def read_rows(self) -> int:
        """Rows of channels that a pass reads of a position."""
        return 1 if self.by_row else self.rows

    @cached_property
    def _one_row(self) -> bool:
        """Tell whether every weight is in the row of channels of its kernel's pass."""
        place = self.places[self._channel]
        return bool((place // self.config.row_values == self.pass_of).all())

    @cached_property
    def _channel(self) -> Array:
        return self.weights.places // self.weights.window

    @property
    def pass_of(self) -> Array:
        """The pass of every weight."""
        return self.weights.kernel // self.pass_places

    @property
    def kernel_of(self) -> Array:
        """The kernel ID of every weight."""
        return self.weights.kernel % self.pass_places // self.config.tiles

    @property
    def tile_of(self) -> Array:
        """The tile of every weight."""
        return self.weights.kernel % self.config.tiles

    @property
    def lane_of(self) -> Array:
        """The lane of every weight."""
        return self.places[self._channel] % self.config.lanes

    @cached_property
    def value_of(self) -> Array:
        """The value of its lane that every weight meets: by pass, slot, row, and place there."""
        config = self.config
        row, column = np.divmod(self.places[self._channel], config.row_values)
        if self.by_row:
            row = np.zeros_like(row)
        slot = self.weights.places % self.weights.window
        value = (self.pass_of * self.weights.window + slot) * self.read_rows + row
        return value * config.lane_values + column // config.lanes

    @property
    def _of_tile(self) -> Array:
        """The same number for all weights of a tile that meet the same value."""
        lanes = self.value_of * self.config.lanes + self.lane_of
        return lanes * self.config.tiles + self.tile_of

    @cached_property
    def copy_of(self) -> Array:
        """Number of each weight among those of its tile that meet the same value."""
        key = self._of_tile
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        copies = np.empty(len(key), np.int64)
        copies[order] = np.arange(len(key)) - np.searchsorted(ordered, ordered)
        return copies

    @property
    def weight_rows(self) -> int:
        """Rows of a lane's weight memory."""
        slots = self.passes * self.weights.window
        return slots * self.read_rows * self.config.lane_values * self.depth


@dataclass(frozen=True)
class MapPlacement:
    """A network on a map engine.

    Attributes
    ----------
    network : MapNetwork
        The network.
    config : MapConfig
        The engine.
    addresses : mapping of str to MapAddress
        Addresses by map.
    shapes : tuple of LayerShape or None
        Shapes by step; None for those that multiply nothing.
    map_rows, weight_rows, requantise_rows, tables : int
        What it takes.
    """

    network: MapNetwork
    config: MapConfig
    addresses: Mapping[str, MapAddress]
    shapes: tuple[LayerShape | None, ...]
    map_rows: int
    weight_rows: int
    requantise_rows: int
    tables: int

    @property
    def needs(self) -> dict[str, int]:
        """What it takes, by the field of `MapConfig` that says what there is."""
        return {
            "map_rows": self.map_rows,
            "weight_rows": self.weight_rows,
            "requantise_rows": self.requantise_rows,
            "tables": self.tables,
            "layers": len(self.network.steps),
        }

    def check(self) -> None:
        """Check that the engine's memories hold it.

        Raises
        ------
        CompileError
            Naming the memory, and what it would have to hold.
        """
        for name, need in self.needs.items():
            have = getattr(self.config, name)
            if need > have:
                raise CompileError(
                    f"{self.network.name!r} takes {need} {name} of a map engine, the board has "
                    f"{have}; choose a board with more"
                )


def place_maps(network: MapNetwork, config: MapConfig) -> MapPlacement:
    """Give maps their rows, and layers their shapes; `MapPlacement.check` tells whether it fits."""
    rows = _rows(network, config)
    bases, map_rows = _allocate(network, rows)
    addresses: dict[str, MapAddress] = {}
    for value in network.values.values():
        # Maps that became part of a later step are nowhere.
        if value.name not in bases:
            continue
        count = rows[value.name]
        places, first = [], 0
        for part in value.parts or (value.name,):
            channels = network.values[part].shape[0]
            own = np.arange(channels)
            places.append(first * config.row_values + own)
            if value.parts:
                addresses[part] = MapAddress(bases[value.name] + first, rows[part], count, own)
            first += rows[part]
        addresses[value.name] = MapAddress(bases[value.name], count, count, np.concatenate(places))
    shapes = tuple(
        None if step.layer is None else LayerShape.of(step, addresses[step.source], config)
        for step in network.steps
    )
    tables = {step.table.tobytes() for step in network.steps if step.table is not None}
    made = [shape for shape in shapes if shape is not None]
    return MapPlacement(
        network,
        config,
        addresses,
        shapes,
        map_rows,
        sum(shape.weight_rows for shape in made),
        sum(shape.passes * shape.beats for shape in made),
        len(tables),
    )


def _rows(network: MapNetwork, config: MapConfig) -> dict[str, int]:
    """Rows of a position of every map."""
    raw = {step.target for step in network.steps if step.raw}

    def of(value: MapValue) -> int:
        if value.parts:
            return sum(of(network.values[part]) for part in value.parts)
        rows = -(-value.shape[0] // config.row_values)
        # A sum has four bytes.
        return 4 * rows if value.name in raw else rows

    return {name: of(value) for name, value in network.values.items()}


def _allocate(network: MapNetwork, rows: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """First rows of all maps that are no parts: the first gap that is free as long as they live."""
    containers = network.containers

    def whole(name: str) -> str:
        while name in containers:
            name = containers[name]
        return name

    last = len(network.steps)
    births, deaths = {network.source: -1}, {network.source: -1}
    for number, step in enumerate(network.steps):
        births.setdefault(whole(step.target), number)
        for name in (step.source, step.second, step.target):
            if name:
                deaths[whole(name)] = number
    deaths[whole(network.target)] = last
    bases: dict[str, int] = {}
    top = 0
    for name in sorted(births, key=lambda n: births[n]):
        _, height, width = network.values[name].shape
        size = height * width * rows[name]
        taken = sorted(
            (bases[other], bases[other] + _size(network, rows, other))
            for other in bases
            if deaths[other] >= births[name]
        )
        base = 0
        for low, high in taken:
            if base + size <= low:
                break
            base = max(base, high)
        bases[name] = base
        top = max(top, base + size)
    return bases, top


def _size(network: MapNetwork, rows: Mapping[str, int], name: str) -> int:
    _, height, width = network.values[name].shape
    return height * width * rows[name]
