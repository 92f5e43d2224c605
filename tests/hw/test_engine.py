from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import (
    EMIT,
    PROGRAM,
    REGION,
    REQUANTISE,
    SELECT,
    SEQUENCE,
    SERIALISE,
    SLOT,
    Destination,
    Emission,
    Ties,
    gather_record,
    scatter_record,
    weight_record,
)
from trencadis_format.models.array import step_sums
from trencadis_format.models.emit import host_pieces
from trencadis_format.records import Record
from trencadis_format.timing import EngineTiming
from trencadis_format.widths import SHIFT_BASE
from trencadis_hw.engine import Engine
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, simulate

LOAD_BITS = 512
CHANNELS = 4
TABLE = [(7 * key + 3) % 256 for key in range(256)]
CONFIGS: list[dict[str, Any]] = [
    {"routing": "banked"},
    {"routing": "banked", "lanes": 5, "tables": 1},
    {"routing": "banked", "lanes": 4, "groups": 2},
    {"routing": "trees"},
    {"routing": "trees", "lanes": 3, "tables": 1},
]


def record_fields(record: Record, **values: int) -> int:
    return record.pack(**({field.name: 0 for field in record.fields} | values))


class TwoLayers:
    """An engine with a layer from dense input to lists, and one from lists to bytes.

    Both have four output channels: kernel 0 and 1 of tile 0 and 1. Every lane of a group reads an
    input of its own in the first layer; the lists of the second are read by lane 0 alone.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        rng = np.random.default_rng(config.lanes)
        self.weights = rng.integers(-2, 9, (2, CHANNELS, config.lanes, config.tiles))
        self.engine = Engine(config, batch_lanes=1, load_bits=LOAD_BITS, engine=0)
        self.module: Any = self.engine.elaborate(None)

    def _weight_rows(self, lane: int) -> list[int]:
        """Row 0 for the first layer; rows 4..7, one per input channel, for the second."""
        config = self.config
        record = weight_record(config.tiles, config.kernel_bits)
        rows = []
        for layer, channel in ((0, 0), (0, 0), (0, 0), (0, 0), *((1, c) for c in range(CHANNELS))):
            weights = self.weights[layer, channel, lane]
            values = {}
            for tile in range(config.tiles):
                borrow = tile % 2 and weights[tile - 1] < 0
                values[f"weight{tile}"] = int(weights[tile] - borrow)
                values[f"kernel{tile}"] = self._kernel(layer, lane, channel)
            rows.append(record.pack(**values))
        return rows

    @staticmethod
    def _kernel(layer: int, lane: int, channel: int) -> int:
        return (lane + layer + channel) % 2

    async def load(self, ctx: Context) -> None:
        config, bus = self.config, self.engine.load
        columns = config.columns
        trees = config.routing == "trees"
        beats = 1 if trees else 2
        groups_of_beat = columns // config.requantisers

        async def rows(target: Target, packed: list[int], unit: int = 0) -> None:
            await load_rows(ctx, bus, target, packed, unit=unit)

        await rows(Target.PROGRAM, [PROGRAM.pack(layers=2, depth=0, in_map=0)])
        common = {
            "in_buffers": 1,
            "out_buffers": 1,
            "entry_step": 1,
            "interval": 3,
            "beats": beats - 1,
            "combine": int(config.groups > 1),
        }
        first = record_fields(SEQUENCE, dense=1, out_map=1, destination=Destination.SELF, **common)
        second = record_fields(
            SEQUENCE,
            in_map=1,
            destination=Destination.HOST,
            entries=CHANNELS - 1,
            slot_base=1,
            weight_base=4,
            **common,
        )
        await rows(Target.SEQUENCE, [first, second])
        # Of several lane groups the first has the sum of all.
        per_vector = CHANNELS // config.requantisers
        serialise = record_fields(
            SERIALISE,
            groups=groups_of_beat // config.groups - 1,
            vector_rows=per_vector - 1,
            last_count=config.requantisers - 1,
            high=255,
        )
        mapped = serialise | record_fields(SERIALISE, use_table=int(config.tables > 0))
        await rows(Target.SERIALISE, [serialise, mapped])
        if config.tables:
            await rows(Target.TABLE, TABLE)
        await rows(Target.SELECT, [SELECT.pack(selection=0, whole=0, k=0)] * 2)
        lists = record_fields(
            EMIT, emission=Emission.LISTS, out_map=1, buffers=1, pitch=CHANNELS, size=8
        )
        host = record_fields(EMIT, emission=Emission.BYTES, destination=Destination.HOST)
        await rows(Target.EMIT, [lists, host])
        banks = range(config.requantisers)
        scatter = [
            scatter_record(config.requantisers).pack(
                **{f"source{b}": b for b in banks},
                **{f"row{b}": row for b in banks},
                **{f"valid{b}": 1 for b in banks},
            )
            for row in range(per_vector)
        ]
        await rows(Target.SCATTER, scatter)
        gather = gather_record(config.requantisers).pack(**{f"bank{b}": b for b in banks})
        await rows(Target.GATHER, [gather] * per_vector)
        for unit in banks:
            # The key is the sum, clipped.
            one = REQUANTISE.pack(multiplier=1 << SHIFT_BASE, offset=0, shift=0, ties=Ties.FLOOR)
            await rows(Target.REQUANTISE, [one] * per_vector, unit)
        for lane in range(config.lanes):
            slots = [
                SLOT.pack(offset=lane % config.group_lanes, valid=1),
                SLOT.pack(offset=0, valid=lane == 0),
            ]
            await rows(Target.SLOT, slots, lane)
            await rows(Target.REGION, [REGION.pack(low=0)] * 2, lane)
            await rows(Target.WEIGHT, self._weight_rows(lane), lane)

    def _keys(self, values: npt.NDArray[np.int64], layer: int, channels: list[int]) -> Any:
        """Keys in index order, for operands of shape (cycles, lanes)."""
        config = self.config
        lanes = range(config.lanes)
        weights = np.stack([self.weights[layer, channel] for channel in channels])
        kernels = np.array(
            [[[self._kernel(layer, lane, c)] * config.tiles for lane in lanes] for c in channels]
        )
        sums = step_sums(config, values, weights, kernels, combine=config.groups > 1)
        if config.routing == "trees":
            order = sums.reshape(-1)
        else:
            order = sums[:2, : config.tiles].reshape(-1)
        return np.clip(order, 0, 255)

    def expected(self, sample: list[int]) -> list[int]:
        inputs = np.array([sample * self.config.groups])
        hidden = self._keys(inputs, 0, [0])
        lists = np.zeros((CHANNELS, self.config.lanes), np.int64)
        lists[:, 0] = hidden
        keys = self._keys(lists, 1, list(range(CHANNELS)))
        if self.config.tables:
            keys = np.array(TABLE)[keys]
        return host_pieces(
            keys,
            np.ones(CHANNELS, bool),
            self.config.requantisers,
        )


class Trace:
    """Events in an engine, with their cycles."""

    def __init__(self) -> None:
        self.issues: list[int] = []
        self.beats: list[int] = []
        self.taken: list[int] = []
        self.writes: list[int] = []
        self.hosts: list[int] = []
        self.pieces: list[int] = []


def run(design: TwoLayers, samples: list[list[int]]) -> Trace:
    """Compute samples, all of them waiting from the start as far as there is room."""
    engine, config = design.engine, design.config
    sequencer, output = design.module.submodules.sequencer, design.module.submodules.output
    trace = Trace()

    async def drive(ctx: Context) -> None:
        await design.load(ctx)
        ctx.set(engine.start, 1)
        await ctx.tick()
        ctx.set(engine.start, 0)
        for sample in samples:
            while ctx.get(engine.reserved[0]):
                await ctx.tick()
            ctx.set(engine.outside_reserve, 1)
            await ctx.tick()
            ctx.set(engine.outside_reserve, 0)
            for address, value in enumerate(sample):
                ctx.set(engine.dense_enables, 1)
                ctx.set(engine.dense_addresses, [address])
                ctx.set(engine.dense_values, [value])
                await ctx.tick()
            ctx.set(engine.dense_enables, 0)
            await ctx.tick()
            ctx.set(engine.outside_fill, [1])
            await ctx.tick()
            ctx.set(engine.outside_fill, [0])
        ctx.set(engine.input_ended, 1)
        while (
            not ctx.get(engine.idle) or len(trace.pieces) < len(samples) * 4 // config.requantisers
        ):
            await ctx.tick()
        assert not ctx.get(engine.overflow)

    async def watch(ctx: Context) -> None:
        host, writes = engine.host[0], output.writes[0][0]
        ctx.set(host.ready, 1)
        now = 0
        while True:
            _, _, issue, beat, taken, write, valid, piece = await ctx.tick().sample(
                sequencer.issue.valid,
                output.valid,
                output.queue_taken,
                writes.valid & writes.ready,
                host.valid,
                host.payload,
            )
            for happened, times in (
                (issue, trace.issues),
                (beat, trace.beats),
                (taken, trace.taken),
                (write, trace.writes),
                (valid, trace.hosts),
            ):
                if happened:
                    times.append(now)
            if valid:
                trace.pieces.append(piece)
            now += 1

    simulate(design.module, drive, background=[watch])
    return trace


@pytest.mark.parametrize("changes", [*CONFIGS, {"select_rows": 0}], ids=str)
def test_two_layers_equal_model(engine: Callable[..., EngineConfig], changes: Any) -> None:
    config = engine(**{"kernels_per_tile": 2, "queue_beats": 8, **changes})
    design = TwoLayers(config)
    samples = np.random.default_rng(1).integers(-2, 5, (6, config.group_lanes)).tolist()
    trace = run(design, samples)
    expected = [piece for sample in samples for piece in design.expected(sample)]
    assert trace.pieces == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_latencies(engine: Callable[..., EngineConfig], changes: Any) -> None:
    """An issue is on its way for a cycle before the lanes have it."""
    config = engine(**{"kernels_per_tile": 2, "queue_beats": 8, **changes})
    design = TwoLayers(config)
    design.weights[:] = 1
    trace = run(design, [[1] * config.group_lanes])
    timing = EngineTiming.of(config)
    first, second = trace.issues[0] - 1, trace.issues[1] - 1
    assert trace.beats[0] - first == timing.array
    # Two queues more between the reordering and the emitter.
    vector = len(trace.taken) // 2
    assert trace.writes[0] - trace.taken[vector - 1] == timing.requantise + timing.reorder + 2
    assert len(trace.writes) == CHANNELS + 1
    assert second - trace.writes[-1] == timing.write
