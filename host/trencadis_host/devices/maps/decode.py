"""Layers of a map engine, put together from the tables that its hardware is loaded with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.image import Target
from trencadis_format.layer_tables import REQUANTISE, weight_record
from trencadis_format.map_config import MapConfig
from trencadis_format.map_program import (
    MapProgram,
    MapReads,
    map_reads,
    map_writes,
    multiplies,
    second_reads,
)
from trencadis_format.widths import KEY_BITS

__all__ = ["DecodedMapLayer", "decode_map_layers"]

Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DecodedMapLayer:
    """One layer, ready to compute.

    Attributes
    ----------
    fields : mapping
        Its record.
    add : mapping
        Fields of its addition; empty if it has none.
    reads : MapReads
        Rows that its first pass reads.
    second : int64 array, shape (positions, rows)
        Rows of the second map; without rows if there is none.
    writes : int64 array, shape (positions, rows)
        Rows that it writes.
    weights : int64 array, shape (passes, values of a window, places of a pass)
        Kernels; empty if it does not multiply.
    parameters : mapping of str to int64 array, shape (passes, places of a pass)
        Fields of `REQUANTISE`; empty if it gives sums or does not multiply.
    table : uint8 array, shape (256,), or None
        Activation table.
    """

    fields: Mapping[str, int]
    add: Mapping[str, int]
    reads: MapReads
    second: Array
    writes: Array
    weights: Array
    parameters: Mapping[str, Array]
    table: npt.NDArray[np.uint8] | None


def decode_map_layers(program: MapProgram) -> list[DecodedMapLayer]:
    """The layers of a program that `check_map_program` has accepted."""
    return [
        DecodedMapLayer(
            fields=layer,
            add=add,
            reads=map_reads(layer),
            second=second_reads(layer) if add else np.zeros((0, 0), np.int64),
            writes=map_writes(layer),
            weights=_weights(program, layer)
            if multiplies(layer)
            else np.zeros((0, 0, 0), np.int64),
            parameters=_parameters(program, layer),
            table=_table(program, layer),
        )
        for layer, add in zip(program.layers, program.adds, strict=True)
    ]


def _weights(program: MapProgram, layer: Mapping[str, int]) -> Array:
    """Kernels from the weight rows of all lanes: by pass, slot, row of channels, column, place."""
    config = program.config
    passes, beats, depth = layer["passes"] + 1, layer["beats"] + 1, layer["depth"] + 1
    slots = (layer["kernel_h"] + 1) * (layer["kernel_w"] + 1)
    window = slots * (layer["rows"] + 1) * config.lane_values
    count = passes * window * depth
    found = np.zeros((config.lanes, passes, window, beats, config.tiles), np.int64)
    pass_, place = np.divmod(np.arange(count) // depth, window)
    for lane in range(config.lanes):
        rows = program.tables.get((Target.WEIGHT, lane), {})
        stored = [rows.get(layer["weight_base"] + i, 0) for i in range(count)]
        weights, kernels = _unpack(stored, config)
        used = weights != 0
        if (kernels[used] >= beats).any():
            raise ValueError("a weight belongs to a kernel that its pass does not drain")
        row, tile = np.nonzero(used)
        where: Any = (lane, pass_[row], place[row], kernels[row, tile], tile)
        np.add.at(found, where, weights[row, tile])
    # Value j of lane i is column j * lanes + i.
    split = found.reshape(config.lanes, passes, -1, config.lane_values, beats * config.tiles)
    return split.transpose(1, 2, 3, 0, 4).reshape(passes, -1, beats * config.tiles)


def _unpack(rows: list[int], config: MapConfig) -> tuple[Array, Array]:
    """Weights and kernel IDs of weight rows, shape (rows, tiles)."""
    record = weight_record(config.tiles, config.kernel_bits)
    size = -(-record.bits // 8)
    packed = np.frombuffer(b"".join(row.to_bytes(size, "little") for row in rows), np.uint8)
    bits = np.unpackbits(packed.reshape(len(rows), size), axis=1, bitorder="little")
    columns, offset = {}, 0
    for field in record.fields:
        part = bits[:, offset : offset + field.bits].astype(np.int64)
        value = part @ (1 << np.arange(field.bits))
        if field.signed:
            value -= (value >> (field.bits - 1)) << field.bits
        columns[field.name] = value
        offset += field.bits
    weights = np.stack([columns[f"weight{tile}"] for tile in range(config.tiles)], axis=1)
    kernels = np.stack([columns[f"kernel{tile}"] for tile in range(config.tiles)], axis=1)
    weights[:, 1::2] += weights[:, 0::2] < 0
    return weights, kernels


def _parameters(program: MapProgram, layer: Mapping[str, int]) -> Mapping[str, Array]:
    if layer["raw"] or not multiplies(layer):
        return {}
    passes, beats = layer["passes"] + 1, layer["beats"] + 1
    tiles = []
    for tile in range(program.config.tiles):
        rows = program.tables.get((Target.REQUANTISE, tile), {})
        first = layer["requantise_base"]
        tiles.append(
            [REQUANTISE.unpack(rows.get(first + i, 0) & _MASK) for i in range(passes * beats)]
        )
    return {
        field.name: np.array([[row[field.name] for row in rows] for rows in tiles], np.int64)
        .reshape(len(tiles), passes, beats)
        .transpose(1, 2, 0)
        .reshape(passes, -1)
        for field in REQUANTISE.fields
    }


_MASK = (1 << REQUANTISE.bits) - 1


def _table(program: MapProgram, layer: Mapping[str, int]) -> npt.NDArray[np.uint8] | None:
    if not layer["use_table"]:
        return None
    rows = program.tables.get((Target.TABLE, 0), {})
    first = layer["table"] << KEY_BITS
    return np.array([rows.get(first + key, 0) & 255 for key in range(1 << KEY_BITS)], np.uint8)
