"""Filling a block's memories in `amaranth.sim`, over the bus on which images reach them."""

from collections.abc import Iterable

from trencadis_format.image import Target
from trencadis_hw.interface.load import LoadInterface
from trencadis_sim.testbench.streams import Context

__all__ = ["load_rows"]


async def load_rows(
    ctx: Context,
    bus: LoadInterface,
    target: Target,
    rows: Iterable[int],
    *,
    engine: int = 0,
    unit: int = 0,
    start: int = 0,
) -> None:
    """Write packed rows, the first to row `start`; one row per cycle, all written on return."""
    ctx.set(bus.enable, 1)
    ctx.set(bus.target, target)
    ctx.set(bus.engine, engine)
    ctx.set(bus.unit, unit)
    for number, row in enumerate(rows, start=start):
        ctx.set(bus.row, number)
        ctx.set(bus.data, row)
        await ctx.tick()
    ctx.set(bus.enable, 0)
