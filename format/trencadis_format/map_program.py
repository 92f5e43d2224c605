"""The program of a map engine, read back from a device image."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_format.config import KernelConfig
from trencadis_format.image import Target, unpack_blocks
from trencadis_format.layer_tables import FEED
from trencadis_format.map_config import MapConfig
from trencadis_format.map_tables import ADD, MAP_LAYER, MAP_PROGRAM, MapMode
from trencadis_format.records import Record

__all__ = [
    "MapProgram",
    "MapReads",
    "map_reads",
    "map_writes",
    "multiplies",
    "read_map_program",
    "second_reads",
]

Array = npt.NDArray[np.int64]
Tables = Mapping[tuple[Target, int], Mapping[int, int]]

MAX_READS = 1 << 24
"""Rows that a layer reads at most."""


@dataclass(frozen=True)
class MapProgram:
    """Records of a program by layer, and the tables of its image by target and unit."""

    config: MapConfig
    feed: Mapping[str, int]
    out_base: int
    out_rows: int
    layers: tuple[Mapping[str, int], ...]
    adds: tuple[Mapping[str, int], ...]
    tables: Tables


@dataclass(frozen=True)
class MapReads:
    """Rows that a layer reads in its first pass.

    Attributes
    ----------
    address : int64 array, shape (positions, window positions, rows of channels)
        Rows of the map memory, modulo its address space.
    inside : bool array, shape (positions, window positions)
        The position is not in the padding.
    """

    address: Array
    inside: npt.NDArray[np.bool_]


def read_map_program(image: bytes, kernel: KernelConfig) -> MapProgram:
    """The program of an image whose blocks fit their memories (`check_blocks`).

    Raises
    ------
    ValueError
        If a record is missing.
    """
    config = kernel.core.map
    if config is None:
        raise ValueError("the kernel has no map engine")
    tables: dict[tuple[Target, int], dict[int, int]] = defaultdict(dict)
    for block in unpack_blocks(image):
        tables[block.target, block.unit].update(enumerate(block.rows, start=block.start))
    program = _record(tables, MAP_PROGRAM, Target.MAP_PROGRAM, 0)
    count = program["layers"] + 1
    layers = tuple(_record(tables, MAP_LAYER, Target.MAP_LAYER, i) for i in range(count))
    return MapProgram(
        config=config,
        feed=_record(tables, FEED, Target.FEED, 0),
        out_base=program["out_base"],
        out_rows=program["out_rows"] + 1,
        layers=layers,
        adds=tuple(
            _record(tables, ADD, Target.ADD, i) if layer["add"] else {}
            for i, layer in enumerate(layers)
        ),
        tables=tables,
    )


def _record(tables: Tables, record: Record, target: Target, row: int) -> Mapping[str, int]:
    rows = tables.get((target, 0), {})
    if row not in rows:
        raise ValueError(f"the image has no row {row} of {target.name}")
    return record.unpack(rows[row] & ((1 << record.bits) - 1))


def map_reads(layer: Mapping[str, int]) -> MapReads:
    """Rows that a layer reads.

    Raises
    ------
    ValueError
        If they are more than any layer of a map engine's size reads.
    """
    positions = (layer["out_h"] + 1) * (layer["out_w"] + 1)
    window = (layer["kernel_h"] + 1) * (layer["kernel_w"] + 1)
    if positions * window * (layer["rows"] + 1) > MAX_READS:
        raise ValueError(f"a layer reads more than {MAX_READS} rows")
    y, x = np.arange(layer["out_h"] + 1), np.arange(layer["out_w"] + 1)
    ky, kx = np.arange(layer["kernel_h"] + 1), np.arange(layer["kernel_w"] + 1)
    down = y[:, None] * layer["stride_y"] - layer["pad_top"] + ky * layer["dilation_y"]
    across = x[:, None] * layer["stride_x"] - layer["pad_left"] + kx * layer["dilation_x"]
    rows_inside = (down >= 0) & (down <= layer["in_h"])
    columns_inside = (across >= 0) & (across <= layer["in_w"])
    inside = rows_inside[:, None, :, None] & columns_inside[None, :, None, :]
    down_address = y[:, None] * layer["y_step"] + ky * layer["slot_y"]
    across_address = x[:, None] * layer["x_step"] + kx * layer["slot_x"]
    address = layer["origin"] + down_address[:, None, :, None] + across_address[None, :, None, :]
    rows = np.arange(layer["rows"] + 1)
    address = (address.reshape(positions, window, 1) + rows) % (1 << MAP_LAYER["origin"].bits)
    return MapReads(address, np.ascontiguousarray(inside.reshape(positions, window)))


def map_writes(layer: Mapping[str, int]) -> Array:
    """Rows that a layer writes, shape (positions, rows of a position)."""
    return _side_by_side(layer, layer["out_base"], layer["out_step"])


def second_reads(layer: Mapping[str, int]) -> Array:
    """Rows of the second map that a layer reads, shape as of `map_writes`."""
    return _side_by_side(layer, layer["second_base"], layer["second_step"])


def _side_by_side(layer: Mapping[str, int], base: int, step: int) -> Array:
    positions = (layer["out_h"] + 1) * (layer["out_w"] + 1)
    rows = (layer["passes"] + 1) * (layer["step_rows"] + 1)
    return base + np.arange(positions)[:, None] * step + np.arange(rows)


def multiplies(layer: Mapping[str, int]) -> bool:
    """True if a layer is one of `MapMode.MULTIPLY`."""
    return layer["mode"] == MapMode.MULTIPLY
