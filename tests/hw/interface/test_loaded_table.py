from typing import Literal

import pytest

from trencadis_format.image import Target
from trencadis_format.layer_tables import SELECT
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, simulate

ROWS = [SELECT.pack(selection=i % 3, whole=i % 2, k=100 * i) for i in range(5)]


@pytest.mark.parametrize(("style", "latency"), [("distributed", 0), ("block", 1)])
def test_rows_are_read_back(style: Literal["distributed", "block"], latency: int) -> None:
    dut = LoadedTable(SELECT, Target.SELECT, depth=5, load_bits=40, readers=2, style=style)

    async def drive(ctx: Context) -> None:
        await load_rows(ctx, dut.load, Target.EMIT, [0] * 5)
        await load_rows(ctx, dut.load, Target.SELECT, ROWS)
        await load_rows(ctx, dut.load, Target.EMIT, [0] * 5)
        for number, row in enumerate(ROWS):
            for reader, address in enumerate((number, 4 - number)):
                ctx.set(dut.address[reader], address)
            for _ in range(latency):
                await ctx.tick()
            assert ctx.get(dut.row[0].as_value()) == row
            assert ctx.get(dut.row[1].as_value()) == ROWS[4 - number]

    simulate(dut, drive)
