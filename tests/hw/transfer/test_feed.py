import random

import pytest

from trencadis_format.layer_tables import FEED
from trencadis_format.models.feed import stored_values
from trencadis_hw.transfer.feed import Feeder
from trencadis_sim.testbench.streams import Context, Source, simulate

DEPTH = 128


def feed_fields(**changes: int) -> dict[str, int]:
    return {field.name: 0 for field in FEED.fields} | {"buffers": 1} | changes


FORMATS = [
    feed_fields(row_values=8, rows=2, row_skip=3, address=5, zero=128),
    feed_fields(row_values=0, rows=0),
    feed_fields(row_values=15, rows=0, zero=255, buffers=2, buffer_step=64, address=1),
    feed_fields(row_values=2, rows=6, row_skip=1, buffers=2, buffer_step=50),
]


@pytest.mark.parametrize("feed", FORMATS, ids=range(len(FORMATS)))
@pytest.mark.parametrize("bus_bits", [64, 128])
@pytest.mark.parametrize(("stall", "denied"), [(0.0, 0.0), (0.6, 0.5)])
def test_values_equal_model(
    feed: dict[str, int], bus_bits: int, stall: float, denied: float
) -> None:
    dut = Feeder(bus_bits=bus_bits, depth=DEPTH)
    generator = random.Random(f"{feed} {bus_bits} {stall}")
    samples = 6
    count = (feed["row_values"] + 1) * (feed["rows"] + 1)
    per_beat = bus_bits // 8
    beats_of_sample = -(-count // per_beat)
    beats: list[int] = []
    expected: list[tuple[int, int]] = []
    for number in range(samples):
        keys = generator.choices(range(256), k=beats_of_sample * per_beat)
        beats += [
            int.from_bytes(bytes(keys[i : i + per_beat]), "little")
            for i in range(0, len(keys), per_beat)
        ]
        expected += stored_values(feed, keys, second=feed["buffers"] == 2 and number % 2 == 1)
    stored: list[tuple[int, int]] = []
    events: list[str] = []

    async def drive(ctx: Context) -> None:
        ctx.set(dut.feed, feed | {"beats": beats_of_sample - 1})
        await Source(dut.beats, beats, stall=stall, seed=7)(ctx)
        while events.count("done") < samples:
            await ctx.tick()

    async def watch(ctx: Context) -> None:
        while True:
            allowed = generator.random() >= denied
            ctx.set(dut.allowed, allowed)
            _, _, begun, done, enable, address, value = await ctx.tick().sample(
                dut.begun, dut.done, dut.enable, dut.address, dut.value
            )
            assert allowed or not begun
            if enable:
                stored.append((address, value))
            if done:
                assert len(stored) == count * (events.count("done") + 1)
                events.append("done")
            if begun:
                events.append("begun")

    simulate(dut, drive, background=[watch])
    assert stored == expected
    assert events == ["begun", "done"] * samples
