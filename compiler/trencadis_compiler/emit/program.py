"""Programs of engines: a record per turn and unit, and the input's format."""

from collections.abc import Callable, Iterator

from trencadis_compiler.emit.formats import output_layout
from trencadis_compiler.errors import CompileError
from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_compiler.mapping.schedule import Schedule
from trencadis_format.config import KernelConfig
from trencadis_format.image import Block, Target
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    INPUT_ENTRY,
    PROGRAM,
    SELECT,
    SEQUENCE,
    SERIALISE,
    Destination,
    Emission,
    Selection,
)

__all__ = ["feed_block", "input_blocks", "program_blocks"]


def feed_block(placement: Placement, kernel: KernelConfig) -> Block:
    """Format in which samples come in and go out."""
    first = placement.input_reader
    source, feed = first.source, first.feed
    _, left, _, right = first.layer.padding
    sample_bytes = feed.channels * feed.rows * feed.columns
    if not feed.dense:
        sample_bytes = feed.rows * feed.columns * feed.entries * INPUT_ENTRY.bits // 8
    output = output_layout(placement)
    dense = {
        "row_values": feed.channels * feed.columns - 1,
        "rows": feed.rows - 1,
        "row_skip": (left + right) * feed.channels,
        "address": source.base + source.address,
        "buffer_step": source.size,
    }
    row = FEED.pack(
        beats=-(-sample_bytes // kernel.bus_bytes) - 1,
        sparse=not feed.dense,
        **(dense if feed.dense else dict.fromkeys(dense, 0)),
        zero=first.layer.input.zero_key,
        buffers=source.buffers,
        in_map=source.number,
        out_beats=-(-output.pieces * output.piece_bytes // kernel.bus_bytes) - 1,
        out_pieces=output.pieces - 1,
    )
    return Block(Target.FEED, [row], FEED.bits)


def input_blocks(placement: Placement) -> Iterator[Block]:
    """Records of a sparse input: it is written as if a layer before the first one did it."""
    first = placement.input_reader
    feed = first.feed
    if not feed.dense:
        row = EMIT.pack(**_writing(first, rows=feed.rows, columns=feed.columns))
        yield Block(Target.INPUT, [row], EMIT.bits)


def program_blocks(placement: Placement, schedule: Schedule, engine: int) -> list[Block]:
    """The program of an engine: a record per turn for each of its units."""
    turns = schedule.engines[engine].turns
    program = PROGRAM.pack(
        layers=len(turns),
        depth=max(turn.delay for turn in turns),
        in_map=placement.entrance(engine).source.number,
    )
    # Tables after the array are indexed by the turn as well: it is the number that travels along.
    return [
        Block(Target.PROGRAM, [program], PROGRAM.bits, engine=engine),
        *(
            Block(
                target,
                [_packed(make, placement, turn.placed, turn.delay) for turn in turns],
                record.bits,
                engine=engine,
            )
            for target, record, make in (
                (Target.SEQUENCE, SEQUENCE, _sequence),
                (Target.SERIALISE, SERIALISE, _serialise),
                (Target.SELECT, SELECT, _select),
                (Target.EMIT, EMIT, _emit),
            )
        ),
    ]


def _packed(
    make: Callable[[Placement, PlacedLayer, int], int],
    placement: Placement,
    placed: PlacedLayer,
    delay: int,
) -> int:
    """A layer's record, or what does not fit in it."""
    try:
        return make(placement, placed, delay)
    except ValueError as error:
        raise CompileError(
            f"layer {placed.layer.name!r}: {error}, by the hardware's formats; use smaller "
            "maps, windows or strides"
        ) from error


def _destination(placed: PlacedLayer, following: PlacedLayer | None) -> Destination:
    if following is None:
        return Destination.HOST
    return Destination.SELF if following.engine == placed.engine else Destination.NEXT


def _sequence(placement: Placement, placed: PlacedLayer, delay: int) -> int:
    plan, source = placed.plan, placed.source
    layer = plan.layer
    following = placement.reader(placed)
    _, rows, columns = layer.out_shape
    down, right = layer.stride
    pool = layer.pool
    beside = 2 if plan.paired else 1
    return SEQUENCE.pack(
        delay=delay,
        in_map=source.number,
        in_buffers=source.buffers,
        in_step=source.size,
        dense=plan.reading is Reading.DENSE,
        out_map=following.source.number if following else 0,
        out_buffers=following.source.buffers if following else 0,
        destination=_destination(placed, following),
        address=source.base,
        elem_x=beside * right * source.pitch,
        elem_y=down * source.row_step,
        pos_x=right * pool.stride[1] * source.pitch,
        pos_y=down * pool.stride[0] * source.row_step,
        pool_w=pool.kernel[1] // beside - 1,
        pool_h=pool.kernel[0] - 1,
        out_w=columns - 1,
        out_h=rows - 1,
        passes=plan.tile_rounds - 1,
        slots=plan.slots - 1,
        slot_base=placed.slot_base,
        entries=plan.entries - 1,
        entry_step=plan.parts if plan.reading is Reading.LISTS else 1,
        dynamic=plan.dynamic,
        least=plan.least - 1,
        weight_base=placed.weight_base,
        slot_rows=plan.block,
        pass_rows=plan.slots * plan.block,
        interval=plan.interval - 1,
        tail=plan.tail,
        beats=plan.beats - 1,
        combine=plan.combine,
        paired=plan.paired,
    )


def _serialise(placement: Placement, placed: PlacedLayer, delay: int) -> int:
    plan = placed.plan
    layer = plan.layer
    requantisers = plan.config.requantisers
    return SERIALISE.pack(
        groups=plan.groups - 1,
        row_base=placed.requantise_base,
        vector_rows=placed.vector_rows - 1,
        gather_base=placed.gather_base,
        last_count=(layer.weights.shape[0] - 1) % requantisers,
        low=layer.low,
        high=layer.high,
        table=placed.table or 0,
        use_table=placed.table is not None,
        raw=layer.requantised is None,
    )


def _select(placement: Placement, placed: PlacedLayer, delay: int) -> int:
    winners = placed.layer.winners
    if winners is None:
        return SELECT.pack(selection=Selection.ALL, whole=0, k=0)
    return SELECT.pack(
        selection=winners.selection,
        whole=placed.vector_rows > placed.config.select_rows,
        k=winners.k,
    )


def _emit(placement: Placement, placed: PlacedLayer, delay: int) -> int:
    _, rows, columns = placed.layer.out_shape
    following = placement.reader(placed)
    values = dict.fromkeys((field.name for field in EMIT.fields), 0)
    values |= {"emission": Emission.BYTES, "width": columns - 1, "height": rows - 1}
    if following is not None:
        values = _writing(following, rows=rows, columns=columns)
    return EMIT.pack(**(values | {"destination": _destination(placed, following)}))


def _writing(reader: PlacedLayer, *, rows: int, columns: int) -> dict[str, int]:
    """Format of a map of lists, for the layer that reads it."""
    source = reader.source
    assert source.emission is not None, "only a dense input is not written as lists"
    owned = source.emission is Emission.OWNED
    return {
        "emission": source.emission,
        "destination": Destination.SELF,
        "out_map": source.number,
        "buffers": source.buffers,
        "zero": reader.layer.input.zero_key,
        "address": source.address,
        "pitch": source.pitch,
        "row_step": source.row_step,
        "width": columns - 1,
        "height": rows - 1,
        "base": source.base,
        "size": source.size,
        "block": reader.plan.block if owned else 0,
        "owners": reader.plan.parts - 1 if owned else 0,
    }
