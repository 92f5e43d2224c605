"""Reading a device image back into layers that can be computed.

Everything comes from the tables that the hardware would be loaded with: which weights meet which
activations follows from slots, regions and weight rows, the order of channels from the scatter and
gather tables. Nothing is taken from the compiler, so an image that is wrong computes wrong results.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.config import EngineConfig, KernelConfig
from trencadis_format.image import Target, unpack_blocks
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    PROGRAM,
    REGION,
    REQUANTISE,
    SELECT,
    SEQUENCE,
    SERIALISE,
    SLOT,
    Destination,
    Emission,
    Selection,
    gather_record,
    scatter_record,
    weight_record,
)
from trencadis_format.records import Record
from trencadis_format.rows import unpack_rows
from trencadis_format.widths import KEY_BITS

__all__ = ["DecodedInput", "DecodedLayer", "decode"]

Array = npt.NDArray[np.int64]

MAX_MAP = 1 << 24
"""Entries of a map, of the windows over it and of the sums they give, for one sample."""
MAX_KERNELS = 1 << 26
"""Entries of a layer's kernels, zeros and unused places included."""


@dataclass(frozen=True)
class DecodedInput:
    """Places of the values of a packed input.

    Attributes
    ----------
    rows, columns, channels : int
        Rows, columns and channels of the map without padding.
    width : int
        Positions of a padded row.
    first : int
        Position of the first value.
    zero : int
        Key of the value zero.
    sparse : bool
        Samples are of `INPUT_ENTRY`, not of keys.
    """

    rows: int
    columns: int
    channels: int
    width: int
    first: int
    zero: int
    sparse: bool


@dataclass(frozen=True)
class DecodedLayer:
    """One layer, ready to compute.

    Attributes
    ----------
    weights : int64 array, shape (outputs, window positions, input channels)
        The kernels, put together from all lanes, slots and tiles: of the channels in order, or of
        all requantiser places if the layer gives sums.
    offsets : int64 array, shape (window positions,)
        Positions of the window, relative to its first.
    origins : int64 array, shape (rows, columns, steps)
        First position of every window: pooled rows, pooled columns, steps of a pooling window.
    sum_bits : int
        Width of a sum.
    parameters : dict of int64 array, shape (outputs,)
        Fields of `REQUANTISE`; empty if the layer gives sums.
    low, high : int
        Bounds of keys.
    table : int64 array, shape (256,), or None
        Activation table.
    selection, k : Selection, int
        Which activations survive.
    zero : int
        Key of the value zero in the next layer.
    width, first : int
        Positions of a padded row of the next layer's map, and the position of the first output;
        0 if the output goes to the host.
    """

    weights: Array
    offsets: Array
    origins: Array
    sum_bits: int
    parameters: dict[str, Array]
    low: int
    high: int
    table: Array | None
    selection: Selection
    k: int
    zero: int
    width: int
    first: int

    @property
    def raw(self) -> bool:
        """The layer gives sums instead of keys."""
        return not self.parameters


def decode(image: bytes, kernel: KernelConfig) -> tuple[DecodedInput, list[DecodedLayer]]:
    """The input and the layers of a device image, in the order in which a sample passes them.

    Raises
    ------
    ValueError
        If the image's tables do not fit each other, or describe more than any memory holds.
    """
    tables: dict[tuple[Target, int, int], dict[int, int]] = defaultdict(dict)
    for block in unpack_blocks(image):
        rows = tables[block.target, block.engine, block.unit]
        rows.update(enumerate(block.rows, start=block.start))
    decoder = _Decoder(tables)
    try:
        return decoder.run(kernel.core.engines)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"the image's tables do not fit each other ({error!r})") from error


class _Decoder:
    def __init__(self, tables: dict[tuple[Target, int, int], dict[int, int]]) -> None:
        self._tables = tables

    def run(self, engines: tuple[EngineConfig, ...]) -> tuple[DecodedInput, list[DecodedLayer]]:
        """Follow a sample from layer to layer."""
        program = self._record(PROGRAM, Target.PROGRAM, 0, 0)
        engine, number = 0, self._reader(0, program["in_map"])
        sequence = self._record(SEQUENCE, Target.SEQUENCE, 0, number)
        feed = self._record(FEED, Target.FEED, 0, 0)
        # A sparse input is written as a layer's output is.
        producer: dict[str, int] | None = None
        if feed["sparse"]:
            producer = self._record(EMIT, Target.INPUT, 0, 0)
            source = _sparse_input(producer, sequence)
        else:
            source = _dense_input(feed, sequence)
        positions = _positions(source.rows, source.columns, source.width, source.first)
        _check_size("the input map", MAX_MAP, positions, source.channels)
        layers: list[DecodedLayer] = []
        while True:
            layer = _Layer(self, engines[engine], engine, number, producer).decode()
            _check_windows(layer, positions, f"layer {number} of engine {engine}")
            layers.append(layer)
            producer = self._record(EMIT, Target.EMIT, engine, number)
            if producer["destination"] == Destination.HOST:
                return source, layers
            if len(layers) > sum(config.layers for config in engines):
                raise ValueError("the image's layers do not end")
            rows, columns = layer.origins.shape[:2]
            positions = _positions(rows, columns, layer.width, layer.first)
            _check_size(
                f"the map after layer {number} of engine {engine}",
                MAX_MAP,
                *(positions, len(layer.weights)),
            )
            engine += producer["destination"] == Destination.NEXT
            number = self._reader(engine, producer["out_map"])

    def row(self, target: Target, engine: int, unit: int, row: int, bits: int) -> int:
        """A row of a table, without what pads it to 32-bit words."""
        return self._tables[target, engine, unit][row] & ((1 << bits) - 1)

    def _record(self, record: Record, target: Target, engine: int, row: int) -> dict[str, int]:
        return record.unpack(self.row(target, engine, 0, row, record.bits))

    def _reader(self, engine: int, number: int) -> int:
        """The layer that reads a map."""
        for row in sorted(self._tables[Target.SEQUENCE, engine, 0]):
            if self._record(SEQUENCE, Target.SEQUENCE, engine, row)["in_map"] == number:
                return row
        raise ValueError(f"no layer of engine {engine} reads map {number}")


def _dense_input(feed: dict[str, int], sequence: dict[str, int]) -> DecodedInput:
    channels = sequence["entries"] + 1
    return DecodedInput(
        rows=feed["rows"] + 1,
        columns=(feed["row_values"] + 1) // channels,
        channels=channels,
        width=(feed["row_values"] + 1 + feed["row_skip"]) // channels,
        first=(feed["address"] - sequence["address"]) // channels,
        zero=feed["zero"],
        sparse=False,
    )


def _sparse_input(emit: dict[str, int], sequence: dict[str, int]) -> DecodedInput:
    owners = emit["owners"] + 1 if emit["emission"] == Emission.OWNED else 1
    return DecodedInput(
        rows=emit["height"] + 1,
        columns=emit["width"] + 1,
        channels=owners * sequence["slot_rows"],
        width=emit["row_step"] // emit["pitch"],
        first=emit["address"] // emit["pitch"],
        zero=emit["zero"],
        sparse=True,
    )


class _Layer:
    """Decodes one layer."""

    def __init__(
        self,
        decoder: _Decoder,
        config: EngineConfig,
        engine: int,
        number: int,
        producer: dict[str, int] | None,
    ) -> None:
        self._decoder = decoder
        self._config = config
        self._engine = engine
        self._name = f"layer {number} of engine {engine}"
        self._producer = producer
        self._sequence, self._serialise, self._select, self._emit = (
            decoder._record(record, target, engine, number)
            for record, target in (
                (SEQUENCE, Target.SEQUENCE),
                (SERIALISE, Target.SERIALISE),
                (SELECT, Target.SELECT),
                (EMIT, Target.EMIT),
            )
        )
        self._pitch = producer["pitch"] if producer else self._sequence["entries"] + 1
        self._owned = producer is not None and producer["emission"] == Emission.OWNED

    def decode(self) -> DecodedLayer:
        """The layer."""
        emit, serialise = self._emit, self._serialise
        offsets, weights = self._weights(window=0)
        origins = self._origins()
        if self._sequence["paired"]:
            origins = np.concatenate([origins, origins + self._beside(offsets, weights)], axis=2)
        parameters: dict[str, Array] = {}
        if not serialise["raw"]:
            places = self._places()
            weights = weights[places]
            parameters = self._parameters(places)
        to_host = emit["destination"] == Destination.HOST
        return DecodedLayer(
            weights=weights,
            offsets=offsets,
            origins=origins,
            sum_bits=self._config.sum_bits,
            parameters=parameters,
            low=serialise["low"],
            high=serialise["high"],
            table=self._table(),
            selection=Selection(self._select["selection"]),
            k=self._select["k"],
            zero=emit["zero"],
            width=0 if to_host else emit["row_step"] // emit["pitch"],
            first=0 if to_host else emit["address"] // emit["pitch"],
        )

    def _row(self, target: Target, unit: int, row: int, bits: int) -> int:
        return self._decoder.row(target, self._engine, unit, row, bits)

    def _origins(self) -> Array:
        """The first position of every window."""
        sequence = self._sequence
        sizes = (sequence[name] + 1 for name in ("out_h", "out_w", "pool_h", "pool_w"))
        _check_size(f"the windows of {self._name}", MAX_MAP, *sizes)
        rows, columns, height, width = (
            np.arange(sequence[name] + 1) for name in ("out_h", "out_w", "pool_h", "pool_w")
        )
        addresses = (
            rows[:, None, None, None] * sequence["pos_y"]
            + columns[:, None, None] * sequence["pos_x"]
            + height[:, None] * sequence["elem_y"]
            + width * sequence["elem_x"]
        )
        return (addresses // self._pitch).reshape(len(rows), len(columns), -1)

    def _beside(self, offsets: Array, weights: Array) -> int:
        """Positions from the first to the second window of a step.

        Raises
        ------
        ValueError
            If the engine cannot do two windows per step, or they are not the same window twice.
        """
        if self._config.routing != "split-trees" or self._sequence["entries"]:
            raise ValueError(f"{self._name} cannot have two windows per step on its engine")
        if self._sequence["slots"] == 0 or self._sequence["slots"] % 2:
            raise ValueError(f"{self._name} has no middle slot for its two windows per step")
        others, their_weights = self._weights(window=1)
        first, second = np.argsort(offsets), np.argsort(others)
        distance = int(others.min() - offsets.min()) if others.size and offsets.size else 0
        if not (
            np.array_equal(others[second], offsets[first] + distance)
            and np.array_equal(their_weights[:, second], weights[:, first])
        ):
            raise ValueError(f"the two windows of a step of {self._name} are not the same")
        return distance

    def _weights(self, window: int) -> tuple[Array, Array]:
        """Window positions, and kernels by requantiser place, of a window of a step."""
        config, sequence = self._config, self._sequence
        record = weight_record(config.tiles, config.kernel_bits)
        block, passes = sequence["slot_rows"], sequence["passes"] + 1
        owners = self._producer["owners"] + 1 if self._owned and self._producer else 1
        positions: dict[int, int] = {}
        units = [
            (lane, slot, positions.setdefault(position, len(positions)), first)
            for lane in range(config.lanes)
            for slot, position, first in self._slots(lane)
            if self._window(lane, slot) == window
        ]
        shape = (passes, sequence["beats"] + 1, config.columns, len(positions), owners * block)
        _check_size(f"the kernels of {self._name}", MAX_KERNELS, *shape)
        sums = np.zeros(shape, np.int64)
        starts = [
            sequence["weight_base"] + number * sequence["pass_rows"] + slot * block
            for _, slot, _, _ in units
            for number in range(passes)
        ]
        lanes = [lane for lane, _, _, _ in units for _ in range(passes)]
        weights, kernels = _unpack_weights(
            [
                self._row(Target.WEIGHT, lane, start + i, record.bits)
                for lane, start in zip(lanes, starts, strict=True)
                for i in range(block)
            ],
            record,
            config.tiles,
        )
        row, tile = np.nonzero(weights)
        kernel = kernels[row, tile]
        unit, number = np.divmod(row // max(block, 1), passes)
        lane, _, position, first = np.array(units, np.int64).reshape(-1, 4).T[:, unit]
        group = np.zeros_like(lane) if sequence["combine"] else lane // config.group_lanes
        if config.routing == "banked":
            beat, column = kernel, group * config.tiles + tile
        else:
            beat, column = np.zeros_like(kernel), tile * config.kernels_per_tile + kernel
        where: tuple[Any, ...] = (number, beat, column, position, first + row % max(block, 1))
        np.add.at(sums, where, weights[row, tile])
        width = (self._serialise["groups"] + 1) * config.requantisers
        by_place = sums[:, :, :width].reshape(-1, len(positions), owners * block)
        return np.array(list(positions), np.int64), by_place

    def _window(self, lane: int, slot: int) -> int:
        """Window of a step that a slot of a lane belongs to."""
        middle = self._sequence["slots"] // 2
        if not self._sequence["paired"] or slot < middle:
            return 0
        return int(slot > middle or lane >= self._config.lanes // 2)

    def _slots(self, lane: int) -> list[tuple[int, int, int]]:
        """Slots of a lane with a window position and the first channel of their own."""
        sequence, producer = self._sequence, self._producer
        region = 0
        if producer:
            bits = REGION.bits
            region = self._row(Target.REGION, lane, producer["out_map"], bits)
        found = []
        for slot in range(sequence["slots"] + 1):
            pattern = self._row(Target.SLOT, lane, sequence["slot_base"] + slot, SLOT.bits)
            entry = SLOT.unpack(pattern)
            if not entry["valid"]:
                continue
            if self._owned:
                found.append((slot, 0, region * sequence["slot_rows"]))
                continue
            address = entry["offset"]
            if producer:
                address += region + sequence["address"] - producer["base"]
            position, part = divmod(address, self._pitch)
            # A lane that takes a later part of a list has the same weights as the one that
            # takes the first.
            if part == 0:
                found.append((slot, position, 0))
        return found

    def _places(self) -> Array:
        """The requantiser place of every channel."""
        width, serialise = self._config.requantisers, self._serialise
        scatter_row, gather_row = scatter_record(width), gather_record(width)
        channels = serialise["vector_rows"] * width + serialise["last_count"] + 1
        by_bank: dict[tuple[int, int], int] = {}
        row = 0
        while len(by_bank) < channels:
            pattern = self._row(Target.SCATTER, 0, serialise["row_base"] + row, scatter_row.bits)
            entry = scatter_row.unpack(pattern)
            for bank in range(width):
                if entry[f"valid{bank}"]:
                    by_bank[entry[f"row{bank}"], bank] = row * width + entry[f"source{bank}"]
            row += 1
        places = np.zeros(channels, np.int64)
        for channel in range(channels):
            row, i = divmod(channel, width)
            pattern = self._row(Target.GATHER, 0, serialise["gather_base"] + row, gather_row.bits)
            places[channel] = by_bank[row, gather_row.unpack(pattern)[f"bank{i}"]]
        return places

    def _parameters(self, places: Array) -> dict[str, Array]:
        """Requantisation of every channel."""
        fields: dict[str, list[int]] = {field.name: [] for field in REQUANTISE.fields}
        for place in places.tolist():
            row, unit = divmod(place, self._config.requantisers)
            row += self._serialise["row_base"]
            pattern = self._row(Target.REQUANTISE, unit, row, REQUANTISE.bits)
            for name, value in REQUANTISE.unpack(pattern).items():
                fields[name].append(value)
        return {name: np.array(values, np.int64) for name, values in fields.items()}

    def _table(self) -> Array | None:
        if not self._serialise["use_table"]:
            return None
        first = self._serialise["table"] << KEY_BITS
        return np.array([self._row(Target.TABLE, 0, first + key, KEY_BITS) for key in range(256)])


def _positions(rows: int, columns: int, width: int, first: int) -> int:
    """Positions of a map with its padding, of which there is as much after it as before it.

    Raises
    ------
    ValueError
        If the map does not fit between its padding.
    """
    if min(rows, columns) < 1 or first < 0 or width < columns + first % max(width, 1):
        raise ValueError(
            f"a map of {rows} x {columns} positions from position {first} does not fit rows of "
            f"{width}"
        )
    above = first // width
    return (rows + above + max(above, width - columns) + 1) * width


def _check_windows(layer: DecodedLayer, positions: int, name: str) -> None:
    """Check that the windows of a layer are on the map that it reads, and not too many."""
    outputs, window, channels = layer.weights.shape
    _check_size(f"the windows of {name}", MAX_MAP, layer.origins.size, window, channels)
    _check_size(f"the sums of {name}", MAX_MAP, layer.origins.size, outputs)
    if not window:
        raise ValueError(f"no lane has a slot of {name}")
    first = int(layer.origins.min() + layer.offsets.min())
    last = int(layer.origins.max() + layer.offsets.max())
    if first < 0:
        raise ValueError(f"the windows of {name} begin at position {first}, before their map")
    # Padding below may go on after the rows that are stored: whatever is read there is zero.
    _check_size(f"the padded map of {name}", MAX_MAP, max(positions, last + 1), channels)


def _check_size(what: str, largest: int, *sizes: int) -> None:
    """Check that a table may be made.

    Raises
    ------
    ValueError
        If it would have more entries than are sane.
    """
    entries = math.prod(sizes)
    if entries > largest:
        raise ValueError(f"{what} would have {entries} entries, more than {largest}")


def _unpack_weights(rows: list[int], record: Record, tiles: int) -> tuple[Array, Array]:
    """Weights and kernel IDs of weight rows, shape (rows, tiles)."""
    fields = unpack_rows(record, rows)
    weights = np.stack([fields[f"weight{tile}"] for tile in range(tiles)], axis=1)
    kernels = np.stack([fields[f"kernel{tile}"] for tile in range(tiles)], axis=1)
    weights[:, 1::2] += weights[:, 0::2] < 0
    return weights, kernels
