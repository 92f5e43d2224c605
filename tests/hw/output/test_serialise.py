import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SERIALISE
from trencadis_format.models.serialise import vector_groups
from trencadis_hw.output.serialise import Serialiser
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, plain, simulate

LOAD_BITS = 256


def layer_fields(**changes: int) -> dict[str, int]:
    return {field.name: 0 for field in SERIALISE.fields} | changes


@pytest.mark.parametrize("batch_lanes", [1, 2])
@pytest.mark.parametrize("requantisers", [1, 2, 8])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.0), (0.2, 0.5)])
def test_groups_equal_model(
    engine: Callable[..., EngineConfig],
    batch_lanes: int,
    requantisers: int,
    stalls: tuple[float, float],
) -> None:
    config = engine(tiles=8, requantisers=requantisers, requantise_rows=256)
    dut = Serialiser(config, batch_lanes=batch_lanes, load_bits=LOAD_BITS)
    generator, rng = (
        random.Random(f"{batch_lanes} {requantisers} {stalls}"),
        np.random.default_rng(batch_lanes),
    )
    per_beat = config.columns // requantisers
    layers = [
        layer_fields(groups=per_beat - 1, row_base=5, vector_rows=3),
        layer_fields(groups=0, row_base=0, vector_rows=15),
        layer_fields(groups=per_beat - 1, row_base=100, raw=1),
        layer_fields(groups=per_beat // 2, row_base=31, vector_rows=0),
    ]
    beats: list[dict[str, Any]] = []
    keyed: list[dict[str, Any]] = []
    raw: list[dict[str, Any]] = []
    reserved: list[int] = []
    for _ in range(40):
        number = generator.randrange(len(layers))
        layer = layers[number]
        half = 1 << (config.sum_bits - 1)
        sums = rng.integers(-half, half, (generator.randint(1, 4), batch_lanes, config.columns))
        beats += [
            {"sums": beat.tolist(), "layer": number, "vector_end": int(i == len(sums) - 1)}
            for i, beat in enumerate(sums)
        ]
        groups = [
            {**group, "layer": number} for group in vector_groups(list(sums), layer, requantisers)
        ]
        if layer["raw"]:
            raw += groups
        else:
            keyed += groups
            reserved.append(layer["vector_rows"] + 1)
    source = Source(dut.beats, beats, stall=stalls[0], seed=5)
    sink = Sink(dut.raw, len(raw), stall=stalls[1], seed=6)
    came: list[Any] = []
    asked: list[int] = []

    async def load_and_send(ctx: Context) -> None:
        packed = [SERIALISE.pack(**layer) for layer in layers]
        await load_rows(ctx, dut.load, Target.SERIALISE, packed)
        await source(ctx)
        for _ in range(2):
            await ctx.tick()

    async def take(ctx: Context) -> None:
        """A reorder memory that has room now and then."""
        while True:
            free = generator.choice([0, 1, 4, config.reorder_rows])
            ctx.set(dut.free_rows, free)
            _, _, valid, group, rows = await ctx.tick().sample(
                dut.group_valid, dut.group, dut.reserve
            )
            if valid:
                came.append(plain(group))
            if rows:
                assert rows <= free
                asked.append(rows)

    simulate(dut, load_and_send, sink, background=[take, Monitor(dut.raw, "raw")])
    assert came == keyed
    assert sink.payloads == raw
    assert asked == reserved


def test_a_group_a_cycle(engine: Callable[..., EngineConfig]) -> None:
    config = engine(tiles=8, requantisers=2)
    dut = Serialiser(config, batch_lanes=1, load_bits=LOAD_BITS)
    beat = {"sums": [[0] * 8], "layer": 0, "vector_end": 1}
    valids = []

    async def send(ctx: Context) -> None:
        ctx.set(dut.free_rows, 1)
        packed = SERIALISE.pack(**layer_fields(groups=3))
        await load_rows(ctx, dut.load, Target.SERIALISE, [packed])
        await Source(dut.beats, [beat] * 5)(ctx)

    async def read(ctx: Context) -> None:
        while True:
            _, _, valid = await ctx.tick().sample(dut.group_valid)
            valids.append(valid)

    simulate(dut, send, background=[read])
    first = valids.index(1)
    assert all(valids[first:])
    assert len(valids) - first >= 19
