"""What a piece of hardware is made of: one frozen, checked configuration, passed down.

An *engine* is an array of lanes x tiles multipliers with its memories, sequencer and output stage.
A *core* computes a word (one inference) in one engine, or in several chained ones that work on
successive words at the same time. A *kernel* holds several cores behind one AXI4 port.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, TypeVar, get_args

from trencadis_hw import abi

__all__ = ["CoreConfig", "EngineConfig", "KernelConfig", "Routing"]

Routing = Literal["banked", "trees", "split-trees"]
WeightMemory = Literal["block", "ultra", "distributed"]
_Config = TypeVar("_Config")


def _check(condition: bool, subject: str, rule: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{subject} must be {rule}, not {value!r}")


def _check_range(config: object, name: str, low: int, high: int) -> None:
    value = getattr(config, name)
    subject = f"{type(config).__name__}.{name}"
    _check(
        isinstance(value, int) and low <= value <= high,
        subject,
        f"an integer in {low}..{high}",
        value,
    )


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
    kernels: int
    """Most sparse kernels overlaid in a tile."""
    groups: int = 1
    """Equal groups the lanes fall into. A layer either adds up all groups' sums, or gives every
    group tiles of its own."""
    routing: Routing = "banked"
    """`banked`: an accumulator memory for every lane and tile, drained through one adder tree.
    `trees`: an adder tree for every kernel of a tile; no drain, but cost grows with `kernels`.
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
    """What the weight memories are built from."""
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
        _check_range(self, "lanes", 1, 255)
        _check_range(self, "tiles", 2, 64)
        _check_range(self, "kernels", 1, 64)
        _check_range(self, "groups", 1, self.lanes)
        _check_range(self, "sum_bits", 18, 32)
        _check_range(self, "dense_values", 0, 1 << 16)
        _check_range(self, "list_entries", 0, 1 << 14)
        _check_range(self, "weight_rows", 4, 1 << 16)
        _check_range(self, "slot_rows", 1, 256)
        _check_range(self, "requantisers", 1, 32)
        _check_range(self, "requantise_rows", 1, 1 << 16)
        _check_range(self, "reorder_rows", 2, 1 << 12)
        _check_range(self, "select_rows", 0, 256)
        _check_range(self, "whole_rows", 0, 1 << 12)
        _check_range(self, "tables", 0, 16)
        _check_range(self, "layers", 1, 16)
        _check(self.tiles % 2 == 0, "EngineConfig.tiles", "even", self.tiles)
        _check(
            self.lanes % self.groups == 0,
            "EngineConfig.groups",
            f"a divisor of {self.lanes} lanes",
            self.groups,
        )
        _check(
            self.routing in get_args(Routing),
            "EngineConfig.routing",
            "banked, trees or split-trees",
            self.routing,
        )
        _check(
            self.weight_memory in ("block", "ultra", "distributed"),
            "EngineConfig.weight_memory",
            "block, ultra or distributed",
            self.weight_memory,
        )
        _check(
            self.routing == "banked" or self.groups == 1,
            "EngineConfig.groups",
            "1 with adder-tree routing",
            self.groups,
        )
        _check(
            self.routing != "split-trees" or self.lanes % 2 == 0,
            "EngineConfig.lanes",
            "even with split-tree routing",
            self.lanes,
        )
        _check(
            self.requantisers & (self.requantisers - 1) == 0
            and self.columns % self.requantisers == 0,
            "EngineConfig.requantisers",
            f"a power of two that divides {self.columns} columns",
            self.requantisers,
        )
        _check(
            self.reorder_rows & (self.reorder_rows - 1) == 0,
            "EngineConfig.reorder_rows",
            "a power of two",
            self.reorder_rows,
        )
        _check(
            self.reorder_rows >= 2 * self.select_rows,
            "EngineConfig.reorder_rows",
            f"at least twice the {self.select_rows} rows of select_rows",
            self.reorder_rows,
        )
        _check(
            self.queue_beats >= 2 * self.beats,
            "EngineConfig.queue_beats",
            f"at least twice the {self.beats} beats of a step",
            self.queue_beats,
        )
        _check(
            self.dense_values + self.list_entries > 0,
            "EngineConfig.dense_values and list_entries",
            "positive in one of the two",
            0,
        )

    @property
    def multipliers(self) -> int:
        """Multiplications the array does in a cycle, for one word."""
        return self.lanes * self.tiles

    @property
    def kernel_bits(self) -> int:
        """Width of a kernel ID."""
        return max(1, (self.kernels - 1).bit_length())

    @property
    def layer_bits(self) -> int:
        """Width of a layer's number."""
        return max(1, (self.layers - 1).bit_length())

    @property
    def columns(self) -> int:
        """Sums the array gives in a beat."""
        return self.tiles * (self.groups if self.routing == "banked" else self.kernels)

    @property
    def beats(self) -> int:
        """Most beats a step gives."""
        return self.kernels if self.routing == "banked" else 1

    @property
    def group_lanes(self) -> int:
        """Lanes of a group."""
        return self.lanes // self.groups

    @property
    def weight_bits(self) -> int:
        """Width of a row of a lane's weight memory."""
        return abi.weight_record(self.tiles, self.kernel_bits).bits


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """One or more engines in a chain, computing one or two words in lockstep.

    Raises
    ------
    ValueError
        If a field is out of range or the engines do not fit each other.
    """

    engines: tuple[EngineConfig, ...]
    """The chain: the first engine reads the network's input."""
    sparse_input: bool = False
    """Takes sparse inputs as well: indices and values of the activations that are not zero."""
    words: int = 1
    """Words in lockstep, 1 or 2; two words share weight memories (one port each), tables and
    sequencers."""

    def __post_init__(self) -> None:
        _check(
            isinstance(self.engines, tuple) and 1 <= len(self.engines) <= 4,
            "CoreConfig.engines",
            "a tuple of 1 to 4 engines",
            self.engines,
        )
        _check_range(self, "words", 1, 2)
        _check(
            isinstance(self.sparse_input, bool),
            "CoreConfig.sparse_input",
            "true or false",
            self.sparse_input,
        )
        _check(
            self.engines[0].list_entries > 0 or not self.sparse_input,
            "CoreConfig.sparse_input",
            "false, or the first engine's list_entries positive",
            self.sparse_input,
        )
        for i, engine in enumerate(self.engines[1:], start=1):
            _check(
                engine.list_entries > 0, f"engine {i}'s list_entries", "positive, it reads lists", 0
            )

    @property
    def multipliers(self) -> int:
        """Multiplications the core does in a cycle."""
        return self.words * sum(engine.multipliers for engine in self.engines)


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """Several equal cores behind one AXI4 port and one AXI4-Lite port.

    Raises
    ------
    ValueError
        If a field is out of range.
    """

    core: CoreConfig
    cores: int = 1
    """Cores; word groups go to them in turn."""
    bus_bits: int = 64
    """Data width of the AXI4 port: 64, 128, 256 or 512."""
    input_beats: int = 32
    """Bus beats of input that are held for every word of a core, so that all cores are fed."""
    output_beats: int = 32
    """Bus beats of output that are held for every word of a core."""

    def __post_init__(self) -> None:
        _check_range(self, "cores", 1, 64)
        _check_range(self, "input_beats", 2, 1 << 12)
        _check_range(self, "output_beats", 2, 1 << 12)
        _check(
            self.bus_bits in (64, 128, 256, 512),
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
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            If a field is missing, unknown, or out of range.
        """
        try:
            core = dict(data["core"])
            core["engines"] = tuple(_build(EngineConfig, engine) for engine in core["engines"])
            return _build(cls, {**data, "core": _build(CoreConfig, core)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a kernel configuration: {error}") from error

    @property
    def digest(self) -> int:
        """64-bit fingerprint: an image runs only on hardware of the same configuration."""
        text = json.dumps([abi.ABI_VERSION, self.to_dict()], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _build(cls: type[_Config], data: dict[str, Any]) -> _Config:
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(data.keys() - names)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}")
    return cls(**data)
