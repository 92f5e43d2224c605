"""From a placed network of a map engine to a device image."""

from collections.abc import Iterator

import numpy as np

from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import prove_range, reachable_sums
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.maps.network import MapStep
from trencadis_compiler.maps.place import LayerShape, MapPlacement
from trencadis_format.config import KernelConfig
from trencadis_format.image import ABI_VERSION, HEADER, Block, Target, pack_blocks
from trencadis_format.layer_tables import FEED, REQUANTISE, TABLE, Ties, weight_record
from trencadis_format.map_tables import ADD, MAP_LAYER, MAP_PROGRAM, MapMode
from trencadis_format.models.requantise_layer import ChannelError, layer_parameters
from trencadis_format.records import FieldError
from trencadis_format.rows import pack_rows
from trencadis_format.widths import KEY_BITS, OFFSET_SHIFT, SHIFT_BASE

__all__ = ["assemble_maps", "layer_records", "output_rows"]

ADDRESSES = 1 << MAP_LAYER["origin"].bits


def assemble_maps(placement: MapPlacement, kernel: KernelConfig) -> bytes:
    """The device image of a network.

    Raises
    ------
    CompileError
        If a sum could overflow, a requantisation cannot be exact, or a number does not fit its
        field.
    """
    try:
        return pack_blocks(_blocks(placement, kernel))
    except FieldError as error:
        raise CompileError(
            f"{error}, by the hardware's formats; use smaller maps, windows or strides"
        ) from error


def _blocks(placement: MapPlacement, kernel: KernelConfig) -> Iterator[Block]:
    header = HEADER.pack(version=ABI_VERSION, configuration=kernel.digest)
    yield Block(Target.HEADER, [header], HEADER.bits)
    yield Block(Target.CLEAR, [], 0)
    yield _feed(placement, kernel)
    first, rows = output_rows(placement)
    steps = placement.network.steps
    program = MAP_PROGRAM.pack(layers=len(steps) - 1, out_base=first, out_rows=rows - 1)
    yield Block(Target.MAP_PROGRAM, [program], MAP_PROGRAM.bits)
    records = [MAP_LAYER.pack(**fields) for fields in layer_records(placement)]
    yield Block(Target.MAP_LAYER, records, MAP_LAYER.bits)
    none = dict.fromkeys((field.name for field in ADD.fields), 0)
    adds = [ADD.pack(**(step.add or none)) for step in steps]
    yield Block(Target.ADD, adds, ADD.bits)
    weights = parameters = 0
    for step, shape in zip(steps, placement.shapes, strict=True):
        if shape is None or step.layer is None:
            continue
        yield from _weights(shape, weights)
        weights += shape.weight_rows
        prove_range(step.layer, None, placement.config.sum_bits)
        if step.layer.requantised is not None:
            yield from _parameters(step.layer, shape, parameters)
            parameters += shape.passes * shape.beats
    for number, table in enumerate(_tables(placement)):
        yield Block(Target.TABLE, list(table), TABLE.bits, start=number << KEY_BITS)
    yield Block(Target.END, [], 0)


def output_rows(placement: MapPlacement) -> tuple[int, int]:
    """The first row of the output, and the number of rows."""
    value = placement.network.output
    address = placement.addresses[value.name]
    _, rows, columns = value.shape
    return address.base, rows * columns * address.rows


def _feed(placement: MapPlacement, kernel: KernelConfig) -> Block:
    value = placement.network.input
    assert value.quantisation is not None
    channels, rows, columns = value.shape
    bus = kernel.bus_bytes
    _, count = output_rows(placement)
    piece = min(placement.config.row_values, bus)
    size = count * placement.config.row_values
    row = FEED.pack(
        **dict.fromkeys(("row_skip", "buffers", "buffer_step", "in_map", "sparse"), 0),
        beats=-(-channels * rows * columns // bus) - 1,
        row_values=channels - 1,
        rows=rows * columns - 1,
        address=placement.addresses[value.name].base,
        zero=value.quantisation.zero_key,
        out_beats=-(-size // bus) - 1,
        out_pieces=size // piece - 1,
    )
    return Block(Target.FEED, [row], FEED.bits)


def _tables(placement: MapPlacement) -> list[bytes]:
    """The tables, each once."""
    tables = (step.table.tobytes() for step in placement.network.steps if step.table is not None)
    return list(dict.fromkeys(tables))


def layer_records(placement: MapPlacement) -> list[dict[str, int]]:
    """Fields of `MAP_LAYER` of every step."""
    tables = _tables(placement)
    weights = parameters = 0
    found = []
    for step, shape in zip(placement.network.steps, placement.shapes, strict=True):
        values = dict.fromkeys((field.name for field in MAP_LAYER.fields), 0)
        values |= _window(placement, step) | _ends(placement, step)
        if step.table is not None:
            values |= {"use_table": 1, "table": tables.index(step.table.tobytes())}
        if shape is None or step.layer is None:
            rows = placement.addresses[step.source].rows
            values |= {"mode": MapMode.MAXIMUM, "passes": rows - 1, "pass_step": 1}
        else:
            values |= _sums(step.layer, shape)
            values |= {"weight_base": weights, "requantise_base": parameters}
            weights += shape.weight_rows
            parameters += shape.passes * shape.beats * (not step.raw)
        found.append(values)
    return found


def _window(placement: MapPlacement, step: MapStep) -> dict[str, int]:
    """Fields for the walk of a step over the map that it reads."""
    source = placement.addresses[step.source]
    _, rows, columns = placement.network.values[step.source].shape
    _, out_rows, out_columns = placement.network.values[step.target].shape
    if step.layer is not None:
        window, stride = step.layer.weights.shape[2:], step.layer.stride
        dilation, padding = step.layer.dilation, step.layer.padding
    else:
        window, stride = step.window.kernel, step.window.stride
        dilation, padding = step.window.dilation, step.window.padding
    line = columns * source.step
    return {
        "origin": (source.base - padding[0] * line - padding[1] * source.step) % ADDRESSES,
        "x_step": stride[1] * source.step,
        "y_step": stride[0] * line,
        "slot_x": dilation[1] * source.step,
        "slot_y": dilation[0] * line,
        "in_h": rows - 1,
        "in_w": columns - 1,
        "pad_top": padding[0],
        "pad_left": padding[1],
        "stride_y": stride[0],
        "stride_x": stride[1],
        "dilation_y": dilation[0],
        "dilation_x": dilation[1],
        "kernel_h": window[0] - 1,
        "kernel_w": window[1] - 1,
        "out_h": out_rows - 1,
        "out_w": out_columns - 1,
    }


def _ends(placement: MapPlacement, step: MapStep) -> dict[str, int]:
    """Addresses at which a step writes, and the map that it adds."""
    target = placement.addresses[step.target]
    found = {"out_base": target.base, "out_step": target.step}
    if step.second:
        second = placement.addresses[step.second]
        found |= {"add": 1, "second_base": second.base, "second_step": second.step}
    return found


def _sums(layer: Layer, shape: LayerShape) -> dict[str, int]:
    config = shape.config
    raw = layer.requantised is None
    row_weights = config.lane_values * shape.depth
    return {
        "mode": MapMode.MULTIPLY,
        "passes": shape.passes - 1,
        "pass_step": int(shape.by_row),
        "rows": shape.read_rows - 1,
        "row_weights": row_weights,
        "slot_weights": row_weights * shape.read_rows,
        "depth": shape.depth - 1,
        "zero": layer.input.zero_key,
        "beats": shape.beats - 1,
        "low": layer.low,
        "high": layer.high,
        "raw": raw,
        "step_rows": (shape.beats * config.raw_rows if raw else shape.beats // config.row_beats)
        - 1,
    }


def _weights(shape: LayerShape, start: int) -> Iterator[Block]:
    """Weight rows of every lane."""
    config = shape.config
    record = weight_record(config.tiles, config.kernel_bits)
    row = shape.value_of * shape.depth + shape.copy_of
    lanes, tiles, kernels = shape.lane_of, shape.tile_of, shape.kernel_of
    for lane in range(config.lanes):
        mine = lanes == lane
        weights = np.zeros((config.tiles, shape.weight_rows), np.int64)
        owners = np.zeros_like(weights)
        weights[tiles[mine], row[mine]] = shape.weights.values[mine]
        owners[tiles[mine], row[mine]] = kernels[mine]
        # What the odd tile of a pair lends to the even one.
        weights[1::2] -= weights[0::2] < 0
        columns = {f"weight{tile}": weights[tile] for tile in range(config.tiles)}
        columns |= {f"kernel{tile}": owners[tile] for tile in range(config.tiles)}
        packed = pack_rows(record, columns)
        yield Block(Target.WEIGHT, packed, record.bits, unit=lane, start=start)


def _parameters(layer: Layer, shape: LayerShape, start: int) -> Iterator[Block]:
    """Requantise rows of every tile; places without a kernel give the key of zero."""
    least, most = reachable_sums(layer, None)
    assert layer.requantised is not None
    zero = layer.requantised.zero_key
    try:
        found = layer_parameters(layer.real_keys, layer.low, layer.high, zero, least, most)
    except ChannelError as error:
        raise CompileError(f"layer {layer.name!r}, {error}") from error
    unused = REQUANTISE.pack(
        multiplier=0, offset=zero << (SHIFT_BASE - OFFSET_SHIFT), shift=0, ties=Ties.FLOOR
    )
    packed = [REQUANTISE.pack(**vars(parameters)) for parameters in found]
    packed += [unused] * (shape.places_of_kernels - len(packed))
    for tile in range(shape.config.tiles):
        rows = packed[tile :: shape.config.tiles]
        yield Block(Target.REQUANTISE, rows, REQUANTISE.bits, unit=tile, start=start)
