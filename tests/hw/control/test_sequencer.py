import random
from collections.abc import Callable
from typing import Any

import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import PROGRAM, SEQUENCE, Destination
from trencadis_format.models.sequencer import layer_cycles, layer_issues
from trencadis_format.timing import LAYER_OVERHEAD, SAMPLE_OVERHEAD
from trencadis_format.widths import MAP_COUNT
from trencadis_hw.array.lane import Lane, address_bits
from trencadis_hw.control.sequencer import Sequencer
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, simulate

LOAD_BITS = 512
MakeEngine = Callable[..., EngineConfig]


def layer_fields(**changes: int) -> dict[str, int]:
    fields = {field.name: 0 for field in SEQUENCE.fields}
    return fields | {"in_buffers": 1, "out_buffers": 1, "destination": Destination.HOST} | changes


POOLED = layer_fields(
    address=3,
    in_buffers=2,
    in_step=512,
    elem_x=2,
    elem_y=20,
    pos_x=4,
    pos_y=40,
    pool_w=1,
    pool_h=2,
    out_w=2,
    out_h=1,
    passes=1,
    slots=1,
    slot_base=5,
    entries=2,
    entry_step=1,
    weight_base=3,
    slot_rows=7,
    pass_rows=20,
    interval=3,
    tail=2,
    beats=2,
    combine=1,
)
BACKWARDS = layer_fields(
    in_map=2, address=700, elem_x=-3, pool_w=2, pos_x=-11, out_w=1, entries=4, entry_step=5
)
PAIRED = layer_fields(
    address=5,
    elem_x=2,
    elem_y=32,
    pos_x=4,
    pos_y=64,
    pool_w=1,
    pool_h=1,
    out_w=1,
    passes=1,
    pass_rows=5,
    slots=4,
    slot_base=3,
    slot_rows=1,
    interval=4,
    dense=1,
    paired=1,
)
WAITING = layer_fields(in_map=1, passes=2, pass_rows=4, interval=9, beats=1, dense=1, tail=1)
DENSE = layer_fields(slots=3, entries=5, entry_step=1, slot_rows=6, dense=1)


class Surroundings:
    """All maps are always full, and beats leave the queue after the array now and then."""

    def __init__(self, config: EngineConfig, layers: list[dict[str, int]], stall: float) -> None:
        self.layers = layers
        self.dut = Sequencer(config, load_bits=LOAD_BITS)
        self.stall = stall
        self.ended_after = 0
        self.issues: list[dict[str, int]] = []
        self.times: list[int] = []
        self.releases: list[tuple[int, int]] = []
        self.most_in_queue = 0

    def run(self, issues: int) -> None:
        """Record as many issues."""
        dut = self.dut
        generator = random.Random(5)

        async def drive(ctx: Context) -> None:
            program = PROGRAM.pack(layers=len(self.layers), depth=0, in_map=0)
            await load_rows(ctx, dut.load, Target.PROGRAM, [program])
            packed = [SEQUENCE.pack(**layer) for layer in self.layers]
            await load_rows(ctx, dut.load, Target.SEQUENCE, packed)
            ctx.set(dut.full, (1 << MAP_COUNT) - 1)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            while len(self.issues) < issues:
                await ctx.tick()

        async def watch(ctx: Context) -> None:
            pending: list[dict[str, int]] = []
            lookups: list[int | None] = [None] * Lane.lookup_latency
            asked = [False] * Lane.latency
            walked = in_queue = now = 0
            while True:
                leaves = in_queue > 0 and generator.random() >= self.stall
                ctx.set(dut.queue_taken, leaves)
                ctx.set(dut.ended, asked.pop(0))
                _, _, issue, step, lookup, release = await ctx.tick().sample(
                    dut.issue, dut.step, dut.lookup, dut.release
                )
                in_queue -= leaves
                if lookups.pop(0) is not None:
                    fields = pending.pop(0)
                    fields |= {
                        "index": lookup.index,
                        "weight_row": lookup.weight_row,
                        "walk_first": lookup.walk_first,
                        "dense": lookup.dense,
                    }
                    self.issues.append(fields)
                lookups.append(1 if issue.valid else None)
                walked = 0 if step.first else walked
                asked.append(bool(issue.valid and walked >= self.ended_after))
                if issue.valid:
                    self.times.append(now)
                    names = ("first", "last", "split", "pool_first", "pool_last", "vector_end")
                    names += ("layer", "combine", "beats", "discard")
                    flags = {name: int(getattr(step, name)) for name in names}
                    pending.append({"address": issue.address, "slot": issue.slot, **flags})
                    walked += 1
                    if step.last and step.pool_last:
                        in_queue += step.beats + 1
                        self.most_in_queue = max(self.most_in_queue, in_queue)
                elif step.last:
                    assert step.discard
                if release:
                    self.releases.append((now, release))
                now += 1

        simulate(dut, drive, background=[watch])


@pytest.fixture
def config(engine: MakeEngine) -> EngineConfig:
    return engine(list_entries=1024, weight_rows=64, slot_rows=16, queue_beats=8, layers=4)


def expected_issues(
    layers: list[dict[str, int]], rounds: int, address_bits: int
) -> list[dict[str, int]]:
    result = []
    for number in range(rounds):
        for index, layer in enumerate(layers):
            second = layer["in_buffers"] == 2 and number % 2 == 1
            for issue in layer_issues(layer, second=second):
                issue["address"] %= 1 << address_bits
                same = {"layer": index, "discard": 0}
                same |= {name: layer[name] for name in ("dense", "combine", "beats")}
                result.append(issue | same)
    return result


@pytest.mark.parametrize("stall", [0.0, 0.8])
@pytest.mark.parametrize(
    "layers",
    [[POOLED], [BACKWARDS, WAITING], [DENSE, POOLED, WAITING]],
    ids=["pooled", "two", "three"],
)
def test_issues_equal_model(
    config: EngineConfig, layers: list[dict[str, int]], stall: float
) -> None:
    expected = expected_issues(layers, 3, address_bits=10)
    surroundings = Surroundings(config, layers, stall)
    surroundings.run(len(expected))
    assert surroundings.issues[: len(expected)] == expected
    assert surroundings.most_in_queue <= config.queue_beats


@pytest.mark.parametrize("stall", [0.0, 0.9])
@pytest.mark.parametrize("layers", [[PAIRED], [PAIRED, POOLED]], ids=["one", "two"])
def test_paired_steps_equal_model(
    engine: MakeEngine, layers: list[dict[str, int]], stall: float
) -> None:
    config = engine(lanes=4, routing="split-trees", slot_rows=16, layers=4, weight_rows=64)
    expected = expected_issues(layers, 2, address_bits=address_bits(config))
    surroundings = Surroundings(config, layers, stall)
    surroundings.run(len(expected))
    assert surroundings.issues[: len(expected)] == expected
    assert surroundings.most_in_queue <= config.queue_beats


@pytest.mark.parametrize(
    "layers", [[POOLED], [WAITING, DENSE], [BACKWARDS, WAITING, POOLED]], ids=["1", "2", "3"]
)
def test_cycles_of_layers_and_rounds(config: EngineConfig, layers: list[dict[str, int]]) -> None:
    """Layers that need not wait take exactly the predicted cycles."""
    surroundings = Surroundings(config, layers, stall=0.0)
    counts = [len(list(layer_issues(layer))) for layer in layers]
    surroundings.run(3 * sum(counts) + 1)
    at, now = 0, surroundings.times[0] - SAMPLE_OVERHEAD - LAYER_OVERHEAD
    for _ in range(3):
        now += SAMPLE_OVERHEAD
        for layer, count in zip(layers, counts, strict=True):
            now += LAYER_OVERHEAD
            assert surroundings.times[at] == now
            now += layer_cycles(layer) + layer["tail"]
            at += count


def test_a_map_is_released_when_its_last_entry_has_been_read(config: EngineConfig) -> None:
    surroundings = Surroundings(config, [BACKWARDS], stall=0.0)
    count = len(list(layer_issues(BACKWARDS)))
    surroundings.run(2 * count + 1)
    time, released = surroundings.releases[0]
    assert released == 1 << BACKWARDS["in_map"]
    assert time - surroundings.times[count - 1] == Lane.latency


@pytest.mark.parametrize("ends_at", [0, 3, 9])
@pytest.mark.parametrize("least", [0, 15])
def test_a_walk_ends_when_all_lists_have_ended(
    config: EngineConfig, ends_at: int, least: int
) -> None:
    """The answer to an entry comes some cycles later; entries read until then are ignored."""
    layer = layer_fields(entries=40, least=least, dynamic=1, entry_step=1)
    surroundings = Surroundings(config, [layer], stall=0.0)
    surroundings.ended_after = ends_at
    surroundings.run(60)
    starts = [i for i, issue in enumerate(surroundings.issues) if issue["first"]]
    walked = starts[1] - starts[0]
    assert walked == max(ends_at + 1 + Lane.latency + 2, least + 1)


def test_a_list_without_an_end_is_walked_to_its_end(config: EngineConfig) -> None:
    layer = layer_fields(entries=40, dynamic=1, entry_step=1)
    surroundings = Surroundings(config, [layer], stall=0.0)
    surroundings.ended_after = 1000
    surroundings.run(50)
    starts = [i for i, issue in enumerate(surroundings.issues) if issue["first"]]
    assert starts[1] - starts[0] == 41


def test_layers_wait_for_maps(config: EngineConfig) -> None:
    """For a full one to read, and for a free one to write."""
    layer = layer_fields(in_map=1, out_map=4, destination=Destination.SELF, out_buffers=2)
    dut = Sequencer(config, load_bits=LOAD_BITS)
    now = 0
    events: list[Any] = []

    async def drive(ctx: Context) -> None:
        nonlocal now
        await load_rows(ctx, dut.load, Target.PROGRAM, [PROGRAM.pack(layers=1, depth=0, in_map=0)])
        await load_rows(ctx, dut.load, Target.SEQUENCE, [SEQUENCE.pack(**layer)])
        assert ctx.get(dut.idle)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.reserved, [0, 0, 0, 0, 2, 0, 0, 0])
        for full, reserved in ((0, 2), (0b01, 2), (0b11, 2), (0b11, 1)):
            ctx.set(dut.full, full)
            ctx.set(dut.reserved, [0, 0, 0, 0, reserved, 0, 0, 0])
            for _ in range(20):
                _, _, issue, reserve = await ctx.tick().sample(dut.issue.valid, dut.reserve)
                if issue or reserve:
                    events.append((full, reserved, issue, reserve))
        assert not ctx.get(dut.idle)
        # A layer that has begun to wait gets what it waits for; no more samples come.
        ctx.set(dut.full, 0b10)
        ctx.set(dut.input_ended, 1)
        for _ in range(20):
            await ctx.tick()
        assert ctx.get(dut.idle)

    simulate(dut, drive)
    assert events[0] == (0b11, 1, 0, 1 << 4)
    assert events[1] == (0b11, 1, 1, 0)


def test_answers_to_an_earlier_walk_do_not_end_this_one(config: EngineConfig) -> None:
    """Walks that are over before the answer to their first entry has come."""
    layer = layer_fields(slots=3, entries=3, dynamic=1, entry_step=1)
    surroundings = Surroundings(config, [layer], stall=0.0)
    surroundings.run(40)
    starts = [i for i, issue in enumerate(surroundings.issues) if issue["first"]]
    assert starts[1] - starts[0] == 4 * 4


def test_no_step_is_begun_whose_beats_may_not_fit_the_queue(config: EngineConfig) -> None:
    short = layer_fields(out_w=40, beats=2)
    surroundings = Surroundings(config, [short], stall=0.9)
    surroundings.run(40)
    assert surroundings.most_in_queue == config.queue_beats
