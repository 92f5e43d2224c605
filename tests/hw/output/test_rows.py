import random
from collections.abc import Callable

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SELECT, Selection
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.streams import Queue, connect_streams
from trencadis_hw.output.reorder import row_layout
from trencadis_hw.output.rows import ORDER_DEPTH, RowMerge, RowSplit
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate

LOAD_BITS = 64
LAYERS = [(Selection.ALL, 0), (Selection.EXACT, 0), (Selection.THRESHOLD, 0), (Selection.EXACT, 1)]


class Paths(wiring.Component):
    """A split and a merge, with paths of different length between them."""

    i: stream.Interface
    o: stream.Interface
    whole: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        rows = stream.Signature(row_layout(config))
        super().__init__(
            {
                "i": In(rows),
                "o": Out(rows),
                "whole": Out(rows),
                "load": In(LoadSignature(LOAD_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.split = split = RowSplit(config, load_bits=LOAD_BITS)
        m.submodules.merge = merge = RowMerge(config)
        m.submodules.waiting = waiting = Queue(row_layout(config), 2)
        m.submodules.slow = slow = Queue(row_layout(config), 7)
        wiring.connect(m, wiring.flipped(self.load), split.load)
        connect_streams(m, source=wiring.flipped(self.i), sink=split.i)
        connect_streams(m, source=split.all, sink=waiting.i)
        connect_streams(m, source=split.short, sink=slow.i)
        connect_streams(m, source=split.whole, sink=wiring.flipped(self.whole))
        connect_streams(m, source=split.order, sink=merge.order)
        connect_streams(m, source=waiting.o, sink=merge.all)
        connect_streams(m, source=slow.o, sink=merge.short)
        connect_streams(m, source=merge.o, sink=wiring.flipped(self.o))
        return m


@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.4)])
def test_vectors_stay_in_order(
    engine: Callable[..., EngineConfig], stalls: tuple[float, float]
) -> None:
    dut = Paths(engine())
    generator = random.Random(f"{stalls}")
    rows = []
    for _ in range(60):
        layer, count = generator.randrange(len(LAYERS)), generator.randint(1, 5)
        rows += [
            {
                "keys": [generator.randrange(256), generator.randrange(256)],
                "mask": generator.randrange(4),
                "number": number,
                "last": int(number == count - 1),
                "layer": layer,
            }
            for number in range(count)
        ]
    expected = [row for row in rows if row["layer"] != 3]
    whole = [row for row in rows if row["layer"] == 3]
    sink = Sink(dut.o, len(expected), stall=stalls[1], seed=1)
    whole_sink = Sink(dut.whole, len(whole), stall=stalls[1], seed=2)

    async def drive(ctx: Context) -> None:
        packed = [SELECT.pack(selection=s, whole=whole, k=1) for s, whole in LAYERS]
        await load_rows(ctx, dut.load, Target.SELECT, packed)
        await Source(dut.i, rows, stall=stalls[0], seed=3)(ctx)

    watch = [Monitor(dut.o, "merge"), Monitor(dut.whole, "split")]
    simulate(dut, drive, sink, whole_sink, background=watch)
    assert sink.payloads == expected
    assert whole_sink.payloads == whole


def test_no_more_vectors_than_the_merge_can_keep_apart(engine: Callable[..., EngineConfig]) -> None:
    dut = RowSplit(engine(), load_bits=LOAD_BITS)
    row = {"keys": [0, 0], "mask": 1, "number": 0, "last": 1, "layer": 0}
    source = Source(dut.i, [row] * (ORDER_DEPTH + 5))

    async def wait(ctx: Context) -> None:
        ctx.set(dut.all.ready, 1)
        for _ in range(ORDER_DEPTH + 10):
            await ctx.tick()
        assert source.sent == ORDER_DEPTH
        ctx.set(dut.order.ready, 1)
        for _ in range(10):
            await ctx.tick()
        assert source.sent == ORDER_DEPTH + 5

    simulate(dut, wait, background=[source])


def test_without_a_streaming_selector_vectors_need_no_order(
    engine: Callable[..., EngineConfig],
) -> None:
    dut = RowSplit(engine(select_rows=0), load_bits=LOAD_BITS)
    count = ORDER_DEPTH + 5
    layers = [0, 3] * count
    rows = [
        {"keys": [n % 256, 0], "mask": 1, "number": 0, "last": 1, "layer": layer}
        for n, layer in enumerate(layers)
    ]
    sinks = [Sink(dut.all, count), Sink(dut.whole, count)]

    async def drive(ctx: Context) -> None:
        packed = [SELECT.pack(selection=s, whole=whole, k=1) for s, whole in LAYERS]
        await load_rows(ctx, dut.load, Target.SELECT, packed)
        await Source(dut.i, rows)(ctx)

    simulate(dut, drive, *sinks)
    for sink, layer in zip(sinks, (0, 3), strict=True):
        assert sink.payloads == [row for row in rows if row["layer"] == layer]
