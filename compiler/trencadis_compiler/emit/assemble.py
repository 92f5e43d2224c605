"""Assembling: from a placed network to a device image."""

from collections.abc import Iterator

from trencadis_compiler.emit.order import order_blocks
from trencadis_compiler.emit.program import feed_block, input_blocks, program_blocks
from trencadis_compiler.emit.requantise import requantise_blocks
from trencadis_compiler.emit.weights import lane_blocks, region_blocks
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import prove_range
from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_compiler.mapping.schedule import Schedule
from trencadis_format.config import KernelConfig
from trencadis_format.image import ABI_VERSION, HEADER, Block, Target, pack_blocks
from trencadis_format.records import FieldError
from trencadis_format.widths import KEY_BITS

__all__ = ["assemble"]


def assemble(placement: Placement, schedule: Schedule, kernel: KernelConfig) -> bytes:
    """The device image of a network. Every image is made here, so every range is proved here.

    Raises
    ------
    CompileError
        If a sum could overflow, a requantisation cannot be exact, or a number does not fit its
        field.
    """
    for placed in placement.layers:
        prove_range(placed.layer, placed.feed.survivors, placed.config.sum_bits)
    try:
        return pack_blocks(_blocks(placement, schedule, kernel))
    except FieldError as error:
        raise CompileError(
            f"{error}, by the hardware's formats; use smaller maps or a narrower layer"
        ) from error


def _blocks(placement: Placement, schedule: Schedule, kernel: KernelConfig) -> list[Block]:
    blocks = [
        Block(
            Target.HEADER,
            [HEADER.pack(version=ABI_VERSION, configuration=kernel.digest)],
            HEADER.bits,
        ),
        Block(Target.CLEAR, [], 0),
        feed_block(placement, kernel),
        *input_blocks(placement),
    ]
    for engine in range(len(placement.core.engines)):
        blocks += program_blocks(placement, schedule, engine)
        for placed in placement.on_engine(engine):
            blocks += _layer(placed)
        blocks += region_blocks(placement, engine)
    blocks.append(Block(Target.END, [], 0))
    return blocks


def _layer(placed: PlacedLayer) -> Iterator[Block]:
    """The tables of one layer: slots and weights of every lane, requantisation, order."""
    yield from lane_blocks(placed)
    if placed.layer.requantised is not None:
        yield from requantise_blocks(placed)
        yield from order_blocks(placed)
    if placed.table is not None:
        assert placed.layer.table is not None
        rows = [int(key) for key in placed.layer.table]
        yield Block(
            Target.TABLE,
            rows,
            KEY_BITS,
            start=placed.table << KEY_BITS,
            engine=placed.engine,
        )
