"""From a placed network to the blocks of a device image."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trencadis_compiler.colouring import colour_edges
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact import InexactError, requantise_parameters
from trencadis_compiler.ir import Layer
from trencadis_compiler.place import PlacedLayer, Placement, slot_addresses
from trencadis_compiler.plan import LayerPlan, Reading
from trencadis_compiler.rows import pack_rows
from trencadis_compiler.schedule import Schedule
from trencadis_hw import abi
from trencadis_hw.config import KernelConfig

__all__ = ["OutputFormat", "assemble", "output_format", "reachable_sums"]


@dataclass(frozen=True)
class OutputFormat:
    """Where the activations of an output word are.

    Attributes
    ----------
    channels, rows, columns : int
        Of the output map.
    piece_bytes : int
        Bytes of a piece.
    pieces : int
        Pieces of a word.
    raw : bool
        The word holds 32-bit sums instead of keys.
    order : tuple of int
        For every channel, its place among the activations or sums of a position.
    places : int
        Activations or sums of a position, padding included.
    """

    channels: int
    rows: int
    columns: int
    piece_bytes: int
    pieces: int
    raw: bool
    order: tuple[int, ...]
    places: int


def assemble(placement: Placement, schedule: Schedule, kernel: KernelConfig) -> bytes:
    """The device image of a network.

    Raises
    ------
    CompileError
        If a sum could overflow, a requantisation cannot be exact, or a number does not fit its
        field.
    """
    blocks = [
        abi.Block(
            abi.Target.HEADER,
            [abi.HEADER.pack(version=abi.ABI_VERSION, configuration=kernel.digest)],
            abi.HEADER.bits,
        ),
        abi.Block(abi.Target.CLEAR, [], 0),
        _feed(placement, kernel),
        *_input(placement),
    ]
    for engine in range(len(placement.core.engines)):
        blocks += _program(placement, schedule, engine)
        for placed in placement.on_engine(engine):
            blocks += _layer(placement, placed)
        blocks += _regions(placement, engine)
    blocks.append(abi.Block(abi.Target.END, [], 0))
    return abi.pack_blocks(blocks)


def output_format(placement: Placement) -> OutputFormat:
    """Where the host finds the activations of the last layer."""
    placed = placement.layers[-1]
    layer, requantisers = placed.plan.layer, placed.plan.config.requantisers
    channels, rows, columns = layer.out_shape
    if layer.requantised is None:
        order = [0] * channels
        for row, groups in enumerate(_groups(placed.plan)):
            for column, channel in enumerate(groups):
                if channel is not None:
                    order[channel] = row * requantisers + column
        places = placed.requantise_rows * requantisers
        pieces = rows * columns * placed.requantise_rows * 4
    else:
        order = list(range(channels))
        places = placed.vector_rows * requantisers
        pieces = rows * columns * placed.vector_rows
    return OutputFormat(
        channels=channels,
        rows=rows,
        columns=columns,
        piece_bytes=requantisers,
        pieces=pieces,
        raw=layer.requantised is None,
        order=tuple(order),
        places=places,
    )


def _feed(placement: Placement, kernel: KernelConfig) -> abi.Block:
    first = placement.layers[0]
    source, feed = first.source, first.plan.feed
    _, left, _, right = first.plan.layer.padding
    word_bytes = feed.channels * feed.rows * feed.columns
    if not feed.dense:
        word_bytes = feed.rows * feed.columns * feed.entries * abi.INPUT_ENTRY.bits // 8
    output = output_format(placement)
    dense = {
        "row_values": feed.channels * feed.columns - 1,
        "rows": feed.rows - 1,
        "row_skip": (left + right) * feed.channels,
        "address": source.base + source.address,
        "buffer_step": source.size,
    }
    row = abi.FEED.pack(
        beats=-(-word_bytes // kernel.bus_bytes) - 1,
        sparse=not feed.dense,
        **(dense if feed.dense else dict.fromkeys(dense, 0)),
        zero=first.plan.layer.input.zero_key,
        buffers=source.buffers,
        in_map=source.number,
        out_beats=-(-output.pieces * output.piece_bytes // kernel.bus_bytes) - 1,
        out_pieces=output.pieces - 1,
    )
    return abi.Block(abi.Target.FEED, [row], abi.FEED.bits)


def _input(placement: Placement) -> Iterator[abi.Block]:
    """How a sparse input is written: as if a layer before the first one did it."""
    first = placement.layers[0]
    feed = first.plan.feed
    if not feed.dense:
        row = abi.EMIT.pack(**_writing(first, rows=feed.rows, columns=feed.columns))
        yield abi.Block(abi.Target.INPUT, [row], abi.EMIT.bits)


def _program(placement: Placement, schedule: Schedule, engine: int) -> list[abi.Block]:
    turns = schedule.engines[engine].turns
    program = abi.PROGRAM.pack(
        layers=len(turns),
        depth=max(turn.delay for turn in turns),
        in_map=placement.on_engine(engine)[0].source.number,
    )
    # Tables behind the array are indexed by the turn as well: it is the number that travels along.
    return [
        abi.Block(abi.Target.PROGRAM, [program], abi.PROGRAM.bits, engine=engine),
        *(
            abi.Block(
                target,
                [_packed(make, placement, turn.layer, turn.delay) for turn in turns],
                record.bits,
                engine=engine,
            )
            for target, record, make in (
                (abi.Target.SEQUENCE, abi.SEQUENCE, _sequence),
                (abi.Target.SERIALISE, abi.SERIALISE, _serialise),
                (abi.Target.SELECT, abi.SELECT, _select),
                (abi.Target.EMIT, abi.EMIT, _emit),
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
            f"layer {placed.plan.layer.name!r}: {error}, by the hardware's formats; use smaller "
            "maps, windows or strides"
        ) from error


def _next(placement: Placement, placed: PlacedLayer) -> PlacedLayer | None:
    following = placement.layers[placement.layers.index(placed) + 1 :]
    return following[0] if following else None


def _destination(placed: PlacedLayer, following: PlacedLayer | None) -> abi.Destination:
    if following is None:
        return abi.Destination.HOST
    return abi.Destination.SELF if following.engine == placed.engine else abi.Destination.NEXT


def _sequence(placement: Placement, placed: PlacedLayer, delay: int) -> int:
    plan, source = placed.plan, placed.source
    layer = plan.layer
    following = _next(placement, placed)
    _, rows, columns = layer.out_shape
    down, right = layer.stride
    pool = layer.pool
    beside = 2 if plan.paired else 1
    return abi.SEQUENCE.pack(
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
        passes=plan.passes - 1,
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
    return abi.SERIALISE.pack(
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
    winners = placed.plan.layer.winners
    if winners is None:
        return abi.SELECT.pack(selection=abi.Selection.ALL, whole=0, k=0)
    return abi.SELECT.pack(
        selection=winners.selection,
        whole=placed.vector_rows > placed.plan.config.select_rows,
        k=winners.k,
    )


def _emit(placement: Placement, placed: PlacedLayer, delay: int) -> int:
    _, rows, columns = placed.plan.layer.out_shape
    following = _next(placement, placed)
    values = dict.fromkeys((field.name for field in abi.EMIT.fields), 0)
    values |= {"emission": abi.Emission.BYTES, "width": columns - 1, "height": rows - 1}
    if following is not None:
        values = _writing(following, rows=rows, columns=columns)
    return abi.EMIT.pack(**(values | {"destination": _destination(placed, following)}))


def _writing(reader: PlacedLayer, *, rows: int, columns: int) -> dict[str, int]:
    """How a map of lists is written for the layer that reads it."""
    source = reader.source
    assert source.emission is not None, "only a dense input is not written as lists"
    owned = source.emission is abi.Emission.OWNED
    return {
        "emission": source.emission,
        "destination": abi.Destination.SELF,
        "out_map": source.number,
        "buffers": source.buffers,
        "zero": reader.plan.layer.input.zero_key,
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


def _regions(placement: Placement, engine: int) -> Iterator[abi.Block]:
    """What every lane keeps of every map of its engine."""
    config = placement.core.engines[engine]
    if not config.list_entries:
        return
    sources = {placed.source.number: placed.source for placed in placement.on_engine(engine)}
    for lane in range(config.lanes):
        rows = []
        for number in range(abi.MAP_COUNT):
            lows = sources[number].lows if number in sources else ()
            rows.append(abi.REGION.pack(low=lows[lane] if lows else 0))
        yield abi.Block(abi.Target.REGION, rows, abi.REGION.bits, engine=engine, unit=lane)


def _layer(placement: Placement, placed: PlacedLayer) -> Iterator[abi.Block]:
    """The tables of one layer: slots and weights of every lane, requantisation, order."""
    plan = placed.plan
    config = plan.config
    where = {"engine": placed.engine}
    width = placed.source.row_step // placed.source.pitch
    addresses = slot_addresses(plan, width)
    for lane in range(config.lanes):
        in_group = lane % len(plan.lanes)
        low = placed.source.lows[lane] if placed.source.emission in _LISTS else 0
        slots = []
        units = plan.lanes[in_group]
        for i in range(plan.slots):
            valid = i < len(units) and units[i] is not None
            offset = addresses[in_group][i] - low if valid else 0
            if plan.reading is Reading.OWNED:
                offset = 0
            slots.append(abi.SLOT.pack(offset=offset, valid=valid))
        yield abi.Block(
            abi.Target.SLOT, slots, abi.SLOT.bits, unit=lane, start=placed.slot_base, **where
        )
        yield abi.Block(
            abi.Target.WEIGHT,
            _weight_rows(plan, lane),
            config.weight_bits,
            unit=lane,
            start=placed.weight_base,
            **where,
        )
    if plan.layer.requantised is not None:
        yield from _requantise(placed)
        yield from _order(placed)
    if placed.table is not None:
        assert plan.layer.table is not None
        rows = [int(key) for key in plan.layer.table]
        yield abi.Block(
            abi.Target.TABLE, rows, abi.KEY_BITS, start=placed.table << abi.KEY_BITS, **where
        )


_LISTS = (abi.Emission.LISTS, abi.Emission.TERMINATED)


def _weight_rows(plan: LayerPlan, lane: int) -> list[int]:
    """Rows of a lane's weight memory: by pass, slot and channel."""
    config = plan.config
    record = abi.weight_record(config.tiles, config.kernel_bits)
    group = 0 if plan.combine else lane // config.group_lanes
    units = plan.lanes[lane % len(plan.lanes)]
    kernels = plan.layer.weights.reshape(*plan.layer.weights.shape[:2], -1)
    shape = (plan.passes, plan.slots, plan.block, config.tiles)
    weights, owners = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, (slot, unit) in itertools.product(range(plan.passes), enumerate(units)):
        if unit is None:
            continue
        first = number * plan.tiles_a_pass + group * config.tiles
        start = unit.part * plan.block if plan.reading is Reading.OWNED else 0
        channels = slice(start, min(start + plan.block, plan.feed.channels))
        for column, tile in enumerate(plan.packing.tiles[first : first + config.tiles]):
            # The copy-th kernel of the tile that has a weight at the input owns the row.
            mine = kernels[list(tile), channels, unit.position]
            order = np.cumsum(mine != 0, axis=0) - 1
            kernel, channel = np.nonzero((mine != 0) & (order == unit.copy))
            weights[number, slot, channel, column] = mine[kernel, channel]
            owners[number, slot, channel, column] = kernel
    # What the odd tile of a pair lends to the even one.
    weights[..., 1::2] -= weights[..., 0::2] < 0
    columns = {}
    for tile in range(config.tiles):
        columns[f"weight{tile}"] = weights[..., tile].ravel()
        columns[f"kernel{tile}"] = owners[..., tile].ravel()
    return pack_rows(record, columns)


def _groups(plan: LayerPlan) -> list[list[int | None]]:
    """The channels of every requantiser group of a vector, in the order they come."""
    config = plan.config
    groups: list[list[int | None]] = []
    for number in range(plan.passes):
        first = number * plan.tiles_a_pass
        tiles = plan.packing.tiles[first : first + plan.tiles_a_pass]
        for beat in range(plan.beats):
            channels: list[int | None] = [None] * (plan.groups * config.requantisers)
            for position, tile in enumerate(tiles):
                if config.routing == "banked":
                    if beat < len(tile):
                        channels[position] = tile[beat]
                else:
                    for kernel, channel in enumerate(tile):
                        channels[position * config.kernels + kernel] = channel
            for i in range(plan.groups):
                groups.append(channels[i * config.requantisers : (i + 1) * config.requantisers])
    return groups


def reachable_sums(plan: LayerPlan, channel: int) -> tuple[int, int]:
    """Bounds on the sum of products of a channel, bias not included.

    Values are within the keys that the producer can give; with exact k-WTA at most k of a
    position's channels are not zero.
    """
    layer = plan.layer
    most = 255 - layer.input.zero_key
    least = -layer.input.zero_key
    kernel = layer.weights[channel].astype(np.int64)
    high = np.maximum(kernel * most, kernel * least)
    low = np.minimum(kernel * most, kernel * least)
    if plan.feed.exact and not plan.feed.dense and plan.feed.entries < kernel.shape[0]:
        high = -np.sort(-high, axis=0)[: plan.feed.entries]
        low = np.sort(low, axis=0)[: plan.feed.entries]
    return int(low.sum()), int(high.sum())


def _requantise(placed: PlacedLayer) -> Iterator[abi.Block]:
    plan = placed.plan
    layer = plan.layer
    parameters = [_channel_parameters(plan, channel) for channel in range(layer.weights.shape[0])]
    unused = abi.REQUANTISE.pack(multiplier=0, offset=0, shift=0, ties=abi.Ties.FLOOR)
    groups = _groups(plan)
    for i in range(plan.config.requantisers):
        yield abi.Block(
            abi.Target.REQUANTISE,
            [
                unused if channel is None else parameters[channel]
                for channel in (group[i] for group in groups)
            ],
            abi.REQUANTISE.bits,
            engine=placed.engine,
            unit=i,
            start=placed.requantise_base,
        )


def _channel_parameters(plan: LayerPlan, channel: int) -> int:
    layer = plan.layer
    reach = reachable_sums(plan, channel)
    half = 1 << (plan.config.sum_bits - 1)
    if not -half <= reach[0] <= reach[1] < half:
        raise CompileError(
            f"layer {layer.name!r}, channel {channel}: sums may reach {reach[0]}..{reach[1]}, "
            f"more than the {plan.config.sum_bits} bits of the accumulators; choose a "
            "board with wider sums, such as a copy of this one's file with a larger sum_bits"
        )
    assert layer.requantised is not None
    slope, intercept = real_key(layer, channel)
    try:
        found = requantise_parameters(
            slope, intercept, layer.low, layer.high, layer.requantised.zero_key, reach
        )
    except InexactError as error:
        raise CompileError(f"layer {layer.name!r}, channel {channel}: {error}") from error
    return abi.REQUANTISE.pack(**vars(found))


def real_key(layer: Layer, channel: int) -> tuple[Fraction, Fraction]:
    """Slope and intercept of the exact key of a channel as a function of its sum."""
    assert layer.requantised is not None
    scale = layer.requantised.exact_scale
    product_scale = layer.input.exact_scale * layer.weight_scale[channel]
    return product_scale / scale, layer.bias[channel] / scale + layer.requantised.zero_key


def _order(placed: PlacedLayer) -> Iterator[abi.Block]:
    """Scatter and gather tables: a bank a channel, all different in a group and in a row."""
    plan = placed.plan
    requantisers = plan.config.requantisers
    groups = _groups(plan)
    edges, channels = [], []
    for number, group in enumerate(groups):
        for column, channel in enumerate(group):
            if channel is not None:
                edges.append((number, channel // requantisers))
                channels.append((number, column, channel))
    banks = colour_edges(edges, requantisers)

    scatter_record = abi.scatter_record(requantisers)
    gather_record = abi.gather_record(requantisers)
    scatter = [dict.fromkeys((f.name for f in scatter_record.fields), 0) for _ in groups]
    gather = [
        dict.fromkeys((f.name for f in gather_record.fields), 0) for _ in range(placed.vector_rows)
    ]
    for (number, column, channel), bank in zip(channels, banks, strict=True):
        row, place = divmod(channel, requantisers)
        scatter[number] |= {f"source{bank}": column, f"row{bank}": row, f"valid{bank}": 1}
        gather[row][f"bank{place}"] = bank
    yield abi.Block(
        abi.Target.SCATTER,
        [scatter_record.pack(**row) for row in scatter],
        scatter_record.bits,
        engine=placed.engine,
        start=placed.requantise_base,
    )
    yield abi.Block(
        abi.Target.GATHER,
        [gather_record.pack(**row) for row in gather],
        gather_record.bits,
        engine=placed.engine,
        start=placed.gather_base,
    )
