"""Configuration of a piece of hardware: one frozen, checked value, passed down.

An *engine* is an array of lanes x tiles multipliers with its memories, sequencer and output stage.
A *core* computes a sample (one inference) in one engine, or in several chained ones that work on
successive samples at the same time. A *kernel* holds several cores on one AXI4 port.
"""

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Self, TypeVar, get_args

from trencadis_format.image import ABI_VERSION
from trencadis_format.layer_tables import SEQUENCE, SERIALISE, weight_record
from trencadis_format.limits import Limits, check, check_limits
from trencadis_format.map_config import MapConfig
from trencadis_format.widths import LAYER_BITS, LIST_ADDRESS_BITS, PRODUCT_BITS

__all__ = [
    "BUS_BITS",
    "CORE_LIMITS",
    "ENGINE_LIMITS",
    "KERNEL_LIMITS",
    "MAX_ENGINES",
    "CoreConfig",
    "EngineConfig",
    "KernelConfig",
    "Limits",
    "Routing",
    "WeightMemory",
]

Routing = Literal["banked", "trees", "split-trees"]
WeightMemory = Literal["block", "ultra", "distributed"]
_Config = TypeVar("_Config")


ENGINE_LIMITS: Mapping[str, Limits] = {
    "lanes": Limits(1, 255),
    "tiles": Limits(2, 64),
    "kernels_per_tile": Limits(1, SEQUENCE["beats"].high + 1),
    "groups": Limits(1, 255),
    "sum_bits": Limits(PRODUCT_BITS, 32),
    "dense_values": Limits(0, 1 << SEQUENCE["address"].bits),
    "list_entries": Limits(0, 1 << LIST_ADDRESS_BITS),
    "weight_rows": Limits(4, 1 << SEQUENCE["weight_base"].bits),
    "slot_rows": Limits(1, 1 << SEQUENCE["slot_base"].bits),
    "queue_beats": Limits(2, 1 << 16),
    "requantisers": Limits(1, 32),
    "requantise_rows": Limits(1, 1 << SERIALISE["row_base"].bits),
    "reorder_rows": Limits(2, 1 << SERIALISE["vector_rows"].bits),
    "select_rows": Limits(0, 256),
    "whole_rows": Limits(0, 1 << SERIALISE["vector_rows"].bits),
    "tables": Limits(0, 1 << SERIALISE["table"].bits),
    "layers": Limits(1, 1 << LAYER_BITS),
}
"""Limits of an engine's fields; most follow from the width of a field in the layer tables."""

CORE_LIMITS: Mapping[str, Limits] = {"batch_lanes": Limits(1, 2)}
KERNEL_LIMITS: Mapping[str, Limits] = {
    "cores": Limits(1, 64),
    "input_beats": Limits(2, 1 << 12),
    "output_beats": Limits(2, 1 << 12),
}
MAX_ENGINES = 4
BUS_BITS = (64, 128, 256, 512)
_FORMER_NAMES = {"batch_lanes": "words", "kernels_per_tile": "kernels"}
"""Names that fields had up to version 0.2. Files with them are still read, and digests are made of
them, so that images keep their bytes."""
_NAMES = {former: name for name, former in _FORMER_NAMES.items()}


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """An array of multipliers with its memories, sequencer and output stage.

    Raises
    ------
    ValueError
        If a field is out of range or two fields do not fit each other.
    """

    lanes: int
    """Lanes: activations that are consumed in a cycle."""
    tiles: int
    """Tiles: weights that every lane multiplies its activation with. Even: a DSP does two."""
    kernels_per_tile: int
    """Maximum number of sparse kernels overlaid in a tile."""
    groups: int = 1
    """Equal groups the lanes fall into. A layer either adds up all groups' sums, or gives every
    group tiles of its own."""
    routing: Routing = "banked"
    """`banked`: an accumulator memory for every lane and tile, drained through one adder tree.
    `trees`: an adder tree for every kernel of a tile; no drain, but cost grows with
    `kernels_per_tile`.
    `split-trees`: these, and in a cycle the lower half of the lanes may end a sum while the upper
    half begins the next, so that two windows share an odd number of slots."""
    sum_bits: int = 24
    """Width of accumulators and sums."""
    dense_values: int = 0
    """Values of a lane's dense input memory; 0 if no layer reads the network's input."""
    list_entries: int = 0
    """Entries of a lane's activation list memory; 0 if no layer reads lists."""
    weight_rows: int = 1024
    """Rows of a lane's weight memory."""
    weight_memory: WeightMemory = "block"
    """Kind of memory that the weight memories are built from."""
    slot_rows: int = 16
    """Rows of a lane's slot table, all layers together."""
    queue_beats: int = 32
    """Beats the queue between array and requantisers holds."""
    requantisers: int = 4
    """Sums that are requantised in a cycle. A power of two that divides the array's columns."""
    requantise_rows: int = 512
    """Rows of a requantiser's parameter memory, all layers together."""
    reorder_rows: int = 256
    """Rows of the memory that puts activations back into index order. A power of two."""
    select_rows: int = 16
    """Rows of `requantisers` activations in the longest vector the streaming k-WTA takes; 0 leaves
    it out."""
    whole_rows: int = 0
    """Rows in the longest vector the k-WTA for whole layers takes; 0 leaves it out."""
    tables: int = 0
    """Activation tables; 0 leaves them out."""
    layers: int = 8
    """Layers of a program."""

    def __post_init__(self) -> None:
        check_limits(self, ENGINE_LIMITS)
        check(
            self.groups <= self.lanes,
            "EngineConfig.groups",
            f"at most the {self.lanes} lanes",
            self.groups,
        )
        check(self.tiles % 2 == 0, "EngineConfig.tiles", "even", self.tiles)
        check(
            self.lanes % self.groups == 0,
            "EngineConfig.groups",
            f"a divisor of {self.lanes} lanes",
            self.groups,
        )
        check(
            self.routing in get_args(Routing),
            "EngineConfig.routing",
            "banked, trees or split-trees",
            self.routing,
        )
        check(
            self.weight_memory in ("block", "ultra", "distributed"),
            "EngineConfig.weight_memory",
            "block, ultra or distributed",
            self.weight_memory,
        )
        check(
            self.routing == "banked" or self.groups == 1,
            "EngineConfig.groups",
            "1 with adder-tree routing",
            self.groups,
        )
        check(
            self.routing != "split-trees" or self.lanes % 2 == 0,
            "EngineConfig.lanes",
            "even with split-tree routing",
            self.lanes,
        )
        check(
            self.requantisers & (self.requantisers - 1) == 0
            and self.columns % self.requantisers == 0,
            "EngineConfig.requantisers",
            f"a power of two that divides {self.columns} columns",
            self.requantisers,
        )
        check(
            self.reorder_rows & (self.reorder_rows - 1) == 0,
            "EngineConfig.reorder_rows",
            "a power of two",
            self.reorder_rows,
        )
        check(
            self.reorder_rows >= 2 * self.select_rows,
            "EngineConfig.reorder_rows",
            f"at least twice the {self.select_rows} rows of select_rows",
            self.reorder_rows,
        )
        check(
            self.queue_beats >= 2 * self.beats,
            "EngineConfig.queue_beats",
            f"at least twice the {self.beats} beats of a step",
            self.queue_beats,
        )
        check(
            self.dense_values + self.list_entries > 0,
            "EngineConfig.dense_values and list_entries",
            "positive in one of the two",
            0,
        )

    @property
    def multipliers(self) -> int:
        """Multiplications the array does in a cycle, for one sample."""
        return self.lanes * self.tiles

    @property
    def kernel_bits(self) -> int:
        """Width of a kernel ID."""
        return max(1, (self.kernels_per_tile - 1).bit_length())

    @property
    def layer_bits(self) -> int:
        """Width of a layer's number."""
        return max(1, (self.layers - 1).bit_length())

    @property
    def columns(self) -> int:
        """Sums the array gives in a beat."""
        return self.tiles * (self.groups if self.routing == "banked" else self.kernels_per_tile)

    @property
    def beats(self) -> int:
        """Maximum number of beats per step."""
        return self.kernels_per_tile if self.routing == "banked" else 1

    @property
    def group_lanes(self) -> int:
        """Lanes of a group."""
        return self.lanes // self.groups

    @property
    def weight_bits(self) -> int:
        """Width of a row of a lane's weight memory."""
        return weight_record(self.tiles, self.kernel_bits).bits


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """One or more list engines in a chain, for one or two samples in lockstep; or a map engine.

    Raises
    ------
    ValueError
        If a field is out of range or the engines do not fit each other.
    """

    engines: tuple[EngineConfig, ...] = ()
    """The chain: the first engine reads the network's input. Empty if there is a map engine."""
    map: MapConfig | None = None
    """The map engine, for networks with branches; None if there are list engines."""
    sparse_input: bool = False
    """Takes sparse inputs as well: indices and values of the activations that are not zero."""
    batch_lanes: int = 1
    """Samples in lockstep, 1 or 2; two samples share weight memories (one port each), tables and
    sequencers."""

    def __post_init__(self) -> None:
        if self.map is not None:
            self._check_map()
            return
        check(
            isinstance(self.engines, tuple) and 1 <= len(self.engines) <= MAX_ENGINES,
            "CoreConfig.engines",
            f"a tuple of 1 to {MAX_ENGINES} engines",
            self.engines,
        )
        check_limits(self, CORE_LIMITS)
        check(
            isinstance(self.sparse_input, bool),
            "CoreConfig.sparse_input",
            "true or false",
            self.sparse_input,
        )
        check(
            self.engines[0].list_entries > 0 or not self.sparse_input,
            "CoreConfig.sparse_input",
            "false, or the first engine's list_entries positive",
            self.sparse_input,
        )
        for i, engine in enumerate(self.engines[1:], start=1):
            check(
                engine.list_entries > 0, f"engine {i}'s list_entries", "positive, it reads lists", 0
            )

    def _check_map(self) -> None:
        """Check that the core has a map engine and nothing that belongs to list engines."""
        for name, value in (("engines", ()), ("sparse_input", False), ("batch_lanes", 1)):
            check(
                getattr(self, name) == value,
                f"CoreConfig.{name}",
                f"{value!r} beside a map engine",
                getattr(self, name),
            )

    @property
    def multipliers(self) -> int:
        """Multiplications the core does in a cycle."""
        if self.map is not None:
            return self.map.multipliers
        return self.batch_lanes * sum(engine.multipliers for engine in self.engines)


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """Several equal cores on one AXI4 port and one AXI4-Lite port.

    Raises
    ------
    ValueError
        If a field is out of range.
    """

    core: CoreConfig
    cores: int = 1
    """Cores; sample groups go to them in turn."""
    bus_bits: int = 64
    """Data width of the AXI4 port: 64, 128, 256 or 512."""
    input_beats: int = 32
    """Bus beats of input that are held for every sample of a core, so that all cores are fed."""
    output_beats: int = 32
    """Bus beats of output that are held for every sample of a core."""

    def __post_init__(self) -> None:
        check_limits(self, KERNEL_LIMITS)
        check(
            self.bus_bits in BUS_BITS,
            "KernelConfig.bus_bits",
            "64, 128, 256 or 512",
            self.bus_bits,
        )

    @property
    def bus_bytes(self) -> int:
        """Bytes of a bus beat."""
        return self.bus_bits // 8

    @property
    def multipliers(self) -> int:
        """Multiplications all cores do in a cycle."""
        return self.cores * self.core.multipliers

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready data."""
        return asdict(self, dict_factory=_table_of)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            If a field is missing, unknown, or out of range.
        """
        kernel = _table(data, "kernel")
        core = _table(kernel.get("core"), "core")
        if core.get("map") is not None:
            built = _build(MapConfig, _table(core["map"], "core.map"))
            return _build(cls, {**kernel, "core": _build(CoreConfig, {**core, "map": built})})
        engines = core.get("engines")
        if not isinstance(engines, list | tuple):
            raise ValueError(f"core.engines must be a list of tables, not {reprlib.repr(engines)}")
        built = tuple(
            _build(EngineConfig, _table(engine, f"core.engines[{i}]"))
            for i, engine in enumerate(engines)
        )
        return _build(cls, {**kernel, "core": _build(CoreConfig, {**core, "engines": built})})

    @property
    def digest(self) -> int:
        """64-bit fingerprint: an image runs only on hardware of the same configuration."""
        named = asdict(
            self,
            dict_factory=lambda items: {
                _FORMER_NAMES.get(name, name): value for name, value in _table_of(items).items()
            },
        )
        text = json.dumps([ABI_VERSION, named], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _table_of(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Fields as a table, without those of the kind of engine that is not there."""
    absent = ("engines", ()) if ("map", None) not in items else ("map", None)
    return dict(item for item in items if item[0] != absent[0] or item[1] != absent[1])


def _table(data: object, name: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ValueError(f"{name} must be a table, not {reprlib.repr(data)}")
    return data


def _build(cls: type[_Config], data: dict[str, Any]) -> _Config:
    assert is_dataclass(cls)
    known = {field.name: field for field in fields(cls)}
    data = {
        name if name in known else _NAMES.get(name, name): value for name, value in data.items()
    }
    unknown = sorted(data.keys() - known.keys())
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {reprlib.repr(', '.join(unknown))[1:-1]}")
    for name, field in known.items():
        if name not in data and field.default is MISSING:
            raise ValueError(f"{cls.__name__}.{name} is missing")
    return cls(**data)
