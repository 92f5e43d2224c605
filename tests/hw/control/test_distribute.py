import pytest

from trencadis_hw.control.distribute import Collector, Distributor
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate

BITS = 16


def sample(number: int, beats: int) -> list[int]:
    return [number << 8 | beat for beat in range(beats)]


@pytest.mark.parametrize("ways", [1, 2, 3])
@pytest.mark.parametrize("beats", [1, 3])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.5)])
def test_samples_go_to_outputs_in_turn(ways: int, beats: int, stalls: tuple[float, float]) -> None:
    samples = 7
    dut = Distributor(BITS, ways)
    ports = dut.o
    expected = [
        [beat for number in range(way, samples, ways) for beat in sample(number, beats)]
        for way in range(ways)
    ]
    sinks = [
        Sink(port, len(own), stall=stalls[1], seed=way)
        for way, (port, own) in enumerate(zip(ports, expected, strict=True))
    ]

    async def drive(ctx: Context) -> None:
        ctx.set(dut.samples, samples)
        ctx.set(dut.beats, beats - 1)
        for _ in range(3):
            await ctx.tick()
        assert not ctx.get(dut.ended)
        ctx.set(dut.enable, 1)
        payloads = [beat for number in range(samples) for beat in sample(number, beats)]
        await Source(dut.i, payloads, stall=stalls[0])(ctx)
        assert ctx.get(dut.ended)
        # What comes after the last sample is not handed out.
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        assert not ctx.get(dut.i.ready)
        ctx.set(dut.enable, 0)
        await ctx.tick()
        assert not ctx.get(dut.ended)

    watch = [Monitor(port, f"o_{way}") for way, port in enumerate(ports)]
    simulate(dut, drive, *sinks, background=watch)
    assert [sink.payloads for sink in sinks] == expected


@pytest.mark.parametrize("ways", [1, 2, 3])
@pytest.mark.parametrize("beats", [1, 3])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.5)])
def test_samples_are_taken_in_turn(ways: int, beats: int, stalls: tuple[float, float]) -> None:
    samples = 7
    dut = Collector(BITS, ways)
    expected = [beat for number in range(samples) for beat in sample(number, beats)]
    sources = [
        Source(
            dut.i[way],
            [beat for number in range(way, samples, ways) for beat in sample(number, beats)],
            stall=stalls[0],
            seed=way,
        )
        for way in range(ways)
    ]
    sink = Sink(dut.o, len(expected), stall=stalls[1], seed=9)

    async def drive(ctx: Context) -> None:
        ctx.set(dut.samples, samples)
        ctx.set(dut.beats, beats - 1)
        for _ in range(3):
            await ctx.tick()
        ctx.set(dut.enable, 1)
        while len(sink.payloads) < len(expected):
            await ctx.tick()
            assert ctx.get(dut.done) == len(sink.payloads) // beats
        ctx.set(dut.i[0].valid, 1)
        assert not ctx.get(dut.o.valid)
        ctx.set(dut.enable, 0)
        await ctx.tick()
        assert ctx.get(dut.done) == 0

    simulate(dut, *sources, sink, drive, background=[Monitor(dut.o, "collector")])
    assert sink.payloads == expected
