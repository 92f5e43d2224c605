"""Configuration of a map engine: layers of a graph on maps in one memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from trencadis_format.layer_tables import SERIALISE, weight_record
from trencadis_format.limits import Limits, check, check_limits
from trencadis_format.map_tables import MAP_LAYER, MAP_PROGRAM
from trencadis_format.widths import PRODUCT_BITS

__all__ = ["BANKS", "MAP_LIMITS", "MAX_STEP_ROWS", "MapConfig"]

BANKS = 4
"""Accumulator banks of a lane and tile: it may be so many steps less one ahead of the slowest."""

MAX_STEP_ROWS = 16
"""Rows of a map that a step gives at most; the queue of rows to add holds twice as many."""

MAP_LIMITS: Mapping[str, Limits] = {
    "lanes": Limits(1, 64),
    "tiles": Limits(2, 64),
    "kernels_per_tile": Limits(1, MAP_LAYER["beats"].high + 1),
    "row_values": Limits(4, 64),
    "sum_bits": Limits(PRODUCT_BITS, 32),
    "map_rows": Limits(16, 1 << MAP_LAYER["origin"].bits),
    "weight_rows": Limits(16, 1 << MAP_LAYER["weight_base"].bits),
    "requantise_rows": Limits(1, 1 << MAP_LAYER["requantise_base"].bits),
    "queue_rows": Limits(16, 256),
    "tables": Limits(0, 1 << SERIALISE["table"].bits),
    "layers": Limits(1, MAP_PROGRAM["layers"].high + 1),
}
"""Limits of a map engine's fields."""


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """A map engine: an array of multipliers, a memory of maps that its layers share, a sequencer.

    Raises
    ------
    ValueError
        If a field is out of range or two fields do not fit each other.
    """

    lanes: int
    """Lanes: activations that are multiplied in a cycle."""
    tiles: int
    """Tiles: weights that every lane multiplies its activation with. Even: a DSP does two."""
    kernels_per_tile: int
    """Maximum number of sparse kernels overlaid in a tile."""
    row_values: int = 16
    """Keys of a row of the map memory. A power of two, a multiple of `lanes` and of `tiles`."""
    sum_bits: int = 24
    """Width of accumulators and sums."""
    map_rows: int = 4096
    """Rows of the map memory."""
    weight_rows: int = 2048
    """Rows of a lane's weight memory."""
    weight_memory: str = "block"
    """Kind of memory that weight memories are built from: block, ultra or distributed."""
    requantise_rows: int = 256
    """Rows of a requantiser's parameter memory, all layers together."""
    queue_rows: int = 32
    """Rows of a lane's queue. A power of two."""
    tables: int = 2
    """Activation tables; 0 leaves them out."""
    layers: int = 32
    """Layers of a program."""

    def __post_init__(self) -> None:
        check_limits(self, MAP_LIMITS)
        check(self.tiles % 2 == 0, "MapConfig.tiles", "even", self.tiles)
        for name in ("row_values", "queue_rows"):
            value = getattr(self, name)
            check(value & (value - 1) == 0, f"MapConfig.{name}", "a power of two", value)
        for name in ("lanes", "tiles"):
            check(
                self.row_values % getattr(self, name) == 0,
                "MapConfig.row_values",
                f"a multiple of the {getattr(self, name)} {name}",
                self.row_values,
            )
        check(
            self.kernels_per_tile % self.row_beats == 0
            and self.kernels_per_tile <= MAX_STEP_ROWS * self.row_beats,
            "MapConfig.kernels_per_tile",
            f"a multiple of the {self.row_beats} beats of a row, {MAX_STEP_ROWS} rows at most",
            self.kernels_per_tile,
        )
        check(
            self.row_values <= 4 * self.tiles,
            "MapConfig.row_values",
            f"at most 4 times the {self.tiles} tiles",
            self.row_values,
        )
        check(
            self.weight_memory in ("block", "ultra", "distributed"),
            "MapConfig.weight_memory",
            "block, ultra or distributed",
            self.weight_memory,
        )

    @property
    def multipliers(self) -> int:
        """Multiplications the array does in a cycle."""
        return self.lanes * self.tiles

    @property
    def kernel_bits(self) -> int:
        """Width of a kernel ID."""
        return max(1, (self.kernels_per_tile - 1).bit_length())

    @property
    def weight_bits(self) -> int:
        """Width of a row of a lane's weight memory."""
        return weight_record(self.tiles, self.kernel_bits).bits

    @property
    def lane_values(self) -> int:
        """Values of a row that belong to a lane."""
        return self.row_values // self.lanes

    @property
    def row_beats(self) -> int:
        """Beats of sums that make a row."""
        return self.row_values // self.tiles

    @property
    def raw_rows(self) -> int:
        """Rows that a beat of 32-bit sums takes."""
        return 4 * self.tiles // self.row_values
