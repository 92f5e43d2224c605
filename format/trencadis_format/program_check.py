"""Checks of programs: layers follow each other, end, and stay inside their memories.

`image_check` says that every row fits the memory it is for. Here the rows are read as the hardware
reads them, so that an image with right digests that no compiler made is refused in one line instead
of computing nonsense, or waiting for a map that nobody fills.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from trencadis_format.config import EngineConfig, KernelConfig
from trencadis_format.image import Target, unpack_blocks
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    PROGRAM,
    SELECT,
    SEQUENCE,
    SERIALISE,
    SLOT,
    Destination,
    Emission,
    Selection,
)
from trencadis_format.models.sequencer import layer_cycles
from trencadis_format.records import Record
from trencadis_format.widths import KEY_BITS

__all__ = ["MapShape", "check_program"]

MAX_SLOWDOWN = 16
"""Times as many cycles as the report tells that the fixed walks of an engine may take."""

_Tables = Mapping[tuple[Target, int, int], Mapping[int, int]]


@dataclass(frozen=True)
class MapShape:
    """Facts of a manifest about the input or the output, as far as a program decides them.

    Attributes
    ----------
    rows, columns, channels : int
        Rows, columns and channels of the map.
    raw : bool
        It consists of sums.
    """

    rows: int
    columns: int
    channels: int
    raw: bool = False


@dataclass(frozen=True)
class _Layer:
    """A layer of an engine's program: its records, and where it is."""

    engine: int
    number: int
    config: EngineConfig
    sequence: Mapping[str, int]
    serialise: Mapping[str, int]
    select: Mapping[str, int]
    emit: Mapping[str, int]

    @property
    def name(self) -> str:
        return f"layer {self.number} of engine {self.engine}"

    @property
    def channels(self) -> int:
        rows = self.serialise["vector_rows"]
        return rows * self.config.requantisers + self.serialise["last_count"] + 1

    @property
    def to_host(self) -> bool:
        return self.sequence["destination"] == Destination.HOST


@dataclass(frozen=True)
class _Map:
    """A map as its writer says it: entries of a lane's memory, or values of the dense input."""

    writer: str
    buffers: int
    base: int
    size: int
    dense: bool


def check_program(
    image: bytes,
    kernel: KernelConfig,
    source: MapShape,
    output: MapShape,
    cycles_per_inference: float,
) -> None:
    """Check what an image tells the engines to do.

    Parameters
    ----------
    image : bytes
        The device image, whose blocks fit their memories (`check_blocks`).
    kernel : KernelConfig
        The hardware.
    source, output : MapShape
        What goes in and what comes out by the manifest.
    cycles_per_inference : float
        Cycles of an inference on a core by the manifest's report.

    Raises
    ------
    ValueError
        If a layer asks for what is not there, or a sample would never come out. One line.
    """
    tables: dict[tuple[Target, int, int], dict[int, int]] = defaultdict(dict)
    for block in unpack_blocks(image):
        tables[block.target, block.engine, block.unit].update(
            enumerate(block.rows, start=block.start)
        )
    layers = [
        layer
        for engine, config in enumerate(kernel.core.engines)
        for layer in _program(tables, engine, config)
    ]
    for layer in layers:
        _check_layer(layer, tables)
    for engine in range(len(kernel.core.engines)):
        cycles = sum(_least_cycles(layer) for layer in layers if layer.engine == engine)
        if cycles > MAX_SLOWDOWN * max(cycles_per_inference, 1.0):
            raise ValueError(
                f"engine {engine} takes at least {cycles} cycles, its report tells "
                f"{cycles_per_inference:g}"
            )
    _check_input(tables, source)
    _check_output(_last_layer(tables, layers, kernel), output)


def _least_cycles(layer: _Layer) -> int:
    """Cycles that a layer takes whatever the activations are."""
    walked = layer.sequence["least" if layer.sequence["dynamic"] else "entries"]
    return layer_cycles({**layer.sequence, "entries": walked})


def _program(tables: _Tables, engine: int, config: EngineConfig) -> list[_Layer]:
    """The layers of an engine's program, in their order; none if it has no program."""
    if not tables.get((Target.PROGRAM, engine, 0)):
        return []
    program = _record(tables, PROGRAM, Target.PROGRAM, engine, 0)
    if not 1 <= program["layers"] <= config.layers:
        raise ValueError(
            f"the program of engine {engine} has {program['layers']} layers, not 1 to "
            f"{config.layers}"
        )
    return [
        _Layer(
            engine,
            number,
            config,
            _record(tables, SEQUENCE, Target.SEQUENCE, engine, number),
            _record(tables, SERIALISE, Target.SERIALISE, engine, number),
            _record(tables, SELECT, Target.SELECT, engine, number),
            _record(tables, EMIT, Target.EMIT, engine, number),
        )
        for number in range(program["layers"])
    ]


def _record(
    tables: _Tables, record: Record, target: Target, engine: int, row: int
) -> dict[str, int]:
    rows = tables.get((target, engine, 0), {})
    if row not in rows:
        raise ValueError(f"row {row} of {target.name} of engine {engine} is missing")
    return record.unpack(rows[row] & ((1 << record.bits) - 1))


def _check_layer(layer: _Layer, tables: _Tables) -> None:
    """Check a layer by itself: its parts agree, and each stays in its memory."""
    sequence, serialise, emit = layer.sequence, layer.serialise, layer.emit
    config, name = layer.config, layer.name
    if sequence["destination"] not in tuple(Destination) or (
        sequence["destination"] != emit["destination"]
    ):
        raise ValueError(f"{name} does not say where its output goes")
    if not layer.to_host and (
        (sequence["out_map"], sequence["out_buffers"]) != (emit["out_map"], emit["buffers"])
    ):
        raise ValueError(f"{name} writes another map than it waits for")
    if layer.to_host == (emit["emission"] != Emission.BYTES):
        raise ValueError(f"{name} writes its output in another form than its destination takes")
    if serialise["raw"] and not layer.to_host:
        raise ValueError(f"{name} gives sums to another layer")
    if (sequence["out_h"], sequence["out_w"]) != (emit["height"], emit["width"]):
        raise ValueError(f"{name} computes another number of positions than it writes")
    _check_selection(layer)
    passes, slots = sequence["passes"] + 1, sequence["slots"] + 1
    uses = [
        ("slot", sequence["slot_base"] + slots, config.slot_rows),
        (
            "weight",
            sequence["weight_base"]
            + sequence["passes"] * sequence["pass_rows"]
            + slots * sequence["slot_rows"],
            config.weight_rows,
        ),
    ]
    if not serialise["raw"]:
        groups = passes * (sequence["beats"] + 1) * (serialise["groups"] + 1)
        uses += [
            ("requantiser", serialise["row_base"] + groups, config.requantise_rows),
            (
                "gather",
                serialise["gather_base"] + serialise["vector_rows"] + 1,
                config.requantise_rows,
            ),
        ]
    for what, last, rows in uses:
        if last > rows:
            raise ValueError(f"{name} uses {what} rows to {last} of {rows}")
    if serialise["low"] > serialise["high"]:
        raise ValueError(f"{name} gives keys from {serialise['low']} to {serialise['high']}")
    if serialise["use_table"]:
        first = serialise["table"] << KEY_BITS
        loaded = tables.get((Target.TABLE, layer.engine, 0), {})
        if any(row not in loaded for row in range(first, first + (1 << KEY_BITS))):
            raise ValueError(f"{name} uses table {serialise['table']}, which is not in the image")


def _check_selection(layer: _Layer) -> None:
    select = layer.select
    if select["selection"] not in tuple(Selection):
        raise ValueError(f"{layer.name} has no selection {select['selection']}")
    if select["selection"] == Selection.ALL:
        return
    if layer.serialise["raw"]:
        raise ValueError(f"{layer.name} selects among sums")
    if not 1 <= select["k"] <= layer.channels:
        raise ValueError(
            f"{layer.name} selects {select['k']} winners among {layer.channels} channels"
        )
    rows = layer.config.whole_rows if select["whole"] else layer.config.select_rows
    if layer.serialise["vector_rows"] + 1 > rows:
        raise ValueError(
            f"{layer.name} selects among {layer.serialise['vector_rows'] + 1} rows, its selector "
            f"has {rows}"
        )


def _last_layer(tables: _Tables, layers: list[_Layer], kernel: KernelConfig) -> _Layer:
    """Follow a sample through all layers to the one that gives it to the host.

    Raises
    ------
    ValueError
        If it never comes there, passes a map that is not its reader's, or leaves layers out.
    """
    feed = _record(tables, FEED, Target.FEED, 0, 0)
    filled = _fed_map(tables, feed)
    engine, number = 0, feed["in_map"]
    _check_arrival(tables, engine, number)
    left = list(layers)
    while True:
        readers = [
            layer for layer in left if layer.engine == engine and layer.sequence["in_map"] == number
        ]
        if len(readers) != 1:
            raise ValueError(
                f"{len(readers)} layers of engine {engine} read map {number}, which "
                f"{filled.writer} fills"
            )
        layer = readers[0]
        left.remove(layer)
        _check_reading(layer, filled, tables)
        if layer.to_host:
            if left:
                raise ValueError(f"no sample ever comes to {left[0].name}")
            return layer
        filled = _written_map(layer.name, layer.emit)
        number = layer.sequence["out_map"]
        if layer.sequence["destination"] == Destination.NEXT:
            engine += 1
            if engine >= len(kernel.core.engines):
                raise ValueError(f"{layer.name} gives its output to an engine that is not there")
            _check_arrival(tables, engine, number)
        entries = kernel.core.engines[engine].list_entries
        if filled.base + filled.buffers * filled.size > entries:
            raise ValueError(
                f"map {number} of engine {engine} ends at {filled.base} + {filled.buffers} x "
                f"{filled.size} entries of {entries}"
            )


def _check_arrival(tables: _Tables, engine: int, number: int) -> None:
    """Check that an engine waits for samples in the map in which they arrive."""
    awaited = _record(tables, PROGRAM, Target.PROGRAM, engine, 0)["in_map"]
    if awaited != number:
        raise ValueError(
            f"samples arrive in map {number} of engine {engine}, which waits for them in map "
            f"{awaited}"
        )


def _fed_map(tables: _Tables, feed: Mapping[str, int]) -> _Map:
    """The map that samples are put into."""
    if feed["sparse"]:
        return _written_map("the input", _record(tables, EMIT, Target.INPUT, 0, 0))
    return _Map("the input", feed["buffers"], 0, feed["buffer_step"], dense=True)


def _written_map(writer: str, emit: Mapping[str, int]) -> _Map:
    if emit["pitch"] < 1:
        raise ValueError(f"the lists that {writer} writes have no entries")
    return _Map(writer, emit["buffers"], emit["base"], emit["size"], dense=False)


def _check_reading(layer: _Layer, filled: _Map, tables: _Tables) -> None:
    """Check that a layer reads a map as it is written, and nothing besides it."""
    sequence = layer.sequence
    if bool(sequence["dense"]) != filled.dense:
        raise ValueError(f"{layer.name} takes what {filled.writer} writes for something else")
    if sequence["in_buffers"] != filled.buffers or not 1 <= filled.buffers <= 2:
        raise ValueError(
            f"{layer.name} reads a map of {sequence['in_buffers']} buffers, {filled.writer} "
            f"writes {filled.buffers}"
        )
    if sequence["in_step"] != filled.size:
        raise ValueError(
            f"{layer.name} reads buffers of {sequence['in_step']} entries, {filled.writer} "
            f"writes {filled.size}"
        )
    first, last = _addresses(layer, tables)
    base = sequence["address"] if filled.dense else filled.base
    if first < base or last >= base + filled.size:
        raise ValueError(
            f"{layer.name} reads entries {first} to {last} of a map from {base} to "
            f"{base + filled.size - 1}"
        )


def _addresses(layer: _Layer, tables: _Tables) -> tuple[int, int]:
    """The first and the last entry that any lane reads of a map's first buffer."""
    sequence = layer.sequence
    rows = range(sequence["slot_base"], sequence["slot_base"] + sequence["slots"] + 1)
    offsets = []
    for lane in range(layer.config.lanes):
        slots = tables.get((Target.SLOT, layer.engine, lane), {})
        read = [SLOT.unpack(slots[row] & ((1 << SLOT.bits) - 1)) for row in rows if row in slots]
        offsets += [slot["offset"] for slot in read if slot["valid"]]
    if not offsets:
        raise ValueError(f"no lane has a slot of {layer.name}")
    first, last = sequence["address"] + min(offsets), sequence["address"] + max(offsets)
    steps = (("out_h", "pos_y"), ("out_w", "pos_x"), ("pool_h", "elem_y"), ("pool_w", "elem_x"))
    for count, step in steps:
        distance = sequence[count] * sequence[step]
        first, last = first + min(distance, 0), last + max(distance, 0)
    return first, last + sequence["entries"] * sequence["entry_step"]


def _check_input(tables: _Tables, source: MapShape) -> None:
    """Check that the manifest describes what is fed; of a sparse one the container does."""
    feed = _record(tables, FEED, Target.FEED, 0, 0)
    given = feed["rows"] + 1, feed["row_values"] + 1
    if not feed["sparse"] and given != (source.rows, source.columns * source.channels):
        raise ValueError(
            f"its input is {source} by its manifest, {given[0]} rows of {given[1]} values by its "
            "program"
        )


def _check_output(last: _Layer, output: MapShape) -> None:
    """Check that the manifest describes what the last layer gives."""
    given = MapShape(
        rows=last.emit["height"] + 1,
        columns=last.emit["width"] + 1,
        channels=output.channels if output.raw else last.channels,
        raw=bool(last.serialise["raw"]),
    )
    if given != output:
        raise ValueError(f"its output is {output} by its manifest, {given} by its program")
