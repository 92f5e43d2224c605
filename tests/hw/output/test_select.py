import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SELECT, Selection
from trencadis_format.models.select import winners
from trencadis_hw.output.radix import DIGITS
from trencadis_hw.output.select import StreamSelector
from trencadis_hw.output.select_whole import WholeSelector
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate

LOAD_BITS = 64
STALLS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.4)]
MakeEngine = Callable[..., EngineConfig]
Selector = type[StreamSelector] | type[WholeSelector]


@dataclass
class Vector:
    keys: Sequence[int]
    layer: int


def rows_of(vector: Vector, width: int) -> list[dict[str, Any]]:
    """A vector as the reordering gives it: the last row may be filled up."""
    count = -(-len(vector.keys) // width)
    keys = [*vector.keys, *[255] * (count * width - len(vector.keys))]
    mask = (1 << len(vector.keys)) - 1
    return [
        {
            "keys": keys[i * width : (i + 1) * width],
            "mask": mask >> (i * width) & ((1 << width) - 1),
            "number": i,
            "last": int(i == count - 1),
            "layer": vector.layer,
        }
        for i in range(count)
    ]


def expected_rows(vector: Vector, width: int, k: int, selection: Selection) -> list[dict[str, Any]]:
    """Its rows with the model's winners; those without are left out, but for the last."""
    survivors = winners(np.array(vector.keys), k, selection)
    bits = sum(int(bit) << i for i, bit in enumerate(survivors))
    rows = rows_of(vector, width)
    for i, row in enumerate(rows):
        row["mask"] = bits >> (i * width) & ((1 << width) - 1)
    return [row for row in rows if row["mask"] or row["last"]]


def check(
    selector: Selector,
    config: EngineConfig,
    layers: Sequence[tuple[int, Selection]],
    vectors: Sequence[Vector],
    stalls: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Send vectors through a selector whose layers have the given k and selection."""
    dut = selector(config, load_bits=LOAD_BITS)
    width = config.requantisers
    expected = [
        row for vector in vectors for row in expected_rows(vector, width, *layers[vector.layer])
    ]
    rows = [row for vector in vectors for row in rows_of(vector, width)]
    source = Source(dut.i, rows, stall=stalls[0], seed=3)
    sink = Sink(dut.o, len(expected), stall=stalls[1], seed=4)

    async def load_and_send(ctx: Context) -> None:
        packed = [SELECT.pack(selection=s, whole=0, k=k) for k, s in layers]
        await load_rows(ctx, dut.load, Target.SELECT, packed)
        await source(ctx)

    simulate(dut, load_and_send, sink, background=[Monitor(dut.o, "selector")], most_cycles=60_000)
    assert sink.payloads == expected


def random_vectors(
    layers: Sequence[tuple[int, Selection]], longest: int, count: int, seed: int
) -> list[Vector]:
    """Vectors of all lengths, most with many equal keys."""
    generator = random.Random(seed)
    vectors = []
    for _ in range(count):
        layer = generator.randrange(len(layers))
        length = generator.randint(layers[layer][0], longest)
        choices = generator.sample(range(256), generator.choice([1, 2, 4, 256]))
        vectors.append(Vector(generator.choices(choices, k=length), layer))
    return vectors


LAYERS = [
    (1, Selection.EXACT),
    (3, Selection.THRESHOLD),
    (5, Selection.EXACT),
    (8, Selection.THRESHOLD),
]


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("requantisers", [1, 2, 4])
def test_streaming_winners_equal_model(
    engine: MakeEngine, requantisers: int, stalls: tuple[float, float]
) -> None:
    config = engine(tiles=4, requantisers=requantisers, select_rows=8)
    vectors = random_vectors(LAYERS, 8 * requantisers, 50, seed=requantisers)
    check(StreamSelector, config, LAYERS, vectors, stalls)


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("requantisers", [1, 2, 4])
@pytest.mark.parametrize("whole_rows", [8, 13])
def test_whole_winners_equal_model(
    engine: MakeEngine, requantisers: int, whole_rows: int, stalls: tuple[float, float]
) -> None:
    config = engine(tiles=4, requantisers=requantisers, whole_rows=whole_rows)
    vectors = random_vectors(LAYERS, whole_rows * requantisers, 25, seed=whole_rows)
    check(WholeSelector, config, LAYERS, vectors, stalls)


@pytest.mark.parametrize("selector", [StreamSelector, WholeSelector])
@pytest.mark.parametrize("selection", [Selection.EXACT, Selection.THRESHOLD])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_short_vector(
    engine: MakeEngine, selector: Selector, selection: Selection, length: int
) -> None:
    """All vectors in which keys are in any order and equal in any way; all k.

    The four keys differ in the last, in a middle and in the first digit.
    """
    config = engine(select_rows=2, whole_rows=2, layers=4)
    layers = [(k, selection) for k in range(1, length + 1)]
    vectors = [
        Vector(keys, layer)
        for keys in itertools.product((0, 1, 9, 128)[:length], repeat=length)
        for layer in range(length)
    ]
    check(selector, config, layers, vectors)


@pytest.mark.parametrize("selector", [StreamSelector, WholeSelector])
@pytest.mark.parametrize("requantisers", [1, 4, 8])
@pytest.mark.parametrize("stall", [0.0, 0.8])
def test_vectors_of_one_row(
    engine: MakeEngine, selector: Selector, requantisers: int, stall: float
) -> None:
    config = engine(tiles=8, requantisers=requantisers, select_rows=1, whole_rows=1)
    layers = [(1, Selection.EXACT), (requantisers, Selection.THRESHOLD)]
    vectors = random_vectors(layers, requantisers, 60, seed=requantisers)
    check(selector, config, layers, vectors, (0.0, stall))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_streaming_vectors_follow_each_other_without_a_gap(engine: MakeEngine, count: int) -> None:
    config = engine(select_rows=max(count, 4))
    dut = StreamSelector(config, load_bits=LOAD_BITS)
    rows = 60 // count * rows_of(Vector([9] * 2 * count, 0), 2)
    source, sink = Source(dut.i, rows), Sink(dut.o, len(rows))
    latency = 5 * DIGITS + 2 + DIGITS * count

    async def load_and_send(ctx: Context) -> None:
        packed = SELECT.pack(selection=Selection.EXACT, whole=0, k=2 * count)
        await load_rows(ctx, dut.load, Target.SELECT, [packed])
        await source(ctx)

    simulate(dut, load_and_send, sink, most_cycles=len(rows) + latency)


@pytest.mark.parametrize("selector", [StreamSelector, WholeSelector])
def test_every_key_is_found(engine: MakeEngine, selector: Selector) -> None:
    config = engine(select_rows=2, whole_rows=2)
    vectors = [Vector((key, 255 - key), layer) for key in range(256) for layer in range(2)]
    check(selector, config, [(1, Selection.EXACT), (2, Selection.THRESHOLD)], vectors)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection.ALL, [1, 1, 1, 1, 1]),
        (Selection.EXACT, [1, 0, 1, 0, 0]),
        (Selection.THRESHOLD, [1, 0, 1, 1, 0]),
    ],
)
def test_model(selection: Selection, expected: list[int]) -> None:
    keys = np.array([[7, 3, 7, 7, 0]])
    assert winners(keys, 2, selection).astype(int).tolist() == [expected]


def first_and_last_row_out(
    dut: StreamSelector | WholeSelector, rows: Sequence[dict[str, Any]], k: int
) -> tuple[int, int]:
    """Cycles from the last row in to the first and the last row out."""
    accepted, came = [], []

    async def load_and_send(ctx: Context) -> None:
        packed = SELECT.pack(selection=Selection.EXACT, whole=0, k=k)
        await load_rows(ctx, dut.load, Target.SELECT, [packed])
        await Source(dut.i, rows)(ctx)
        for _ in range(200):
            await ctx.tick()

    async def watch(ctx: Context) -> None:
        now = 0
        ctx.set(dut.o.ready, 1)
        while True:
            samples = (dut.i.valid, dut.i.ready, dut.o.valid)
            _, _, valid, ready, out = await ctx.tick().sample(*samples)
            if valid and ready:
                accepted.append(now)
            if out:
                came.append(now)
            now += 1

    simulate(dut, load_and_send, background=[watch])
    assert len(accepted) == len(came) == len(rows)
    return came[0] - accepted[-1], came[-1] - accepted[-1]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_latency_of_the_streaming_selector(engine: MakeEngine, count: int) -> None:
    config = engine()
    dut = StreamSelector(config, load_bits=LOAD_BITS)
    rows = rows_of(Vector([9] * 2 * count, 0), 2)
    first, last = first_and_last_row_out(dut, rows, 2 * count)
    assert first == 5 * DIGITS + 2 + (DIGITS - 1) * (count - 1)
    assert last == first + count - 1


@pytest.mark.parametrize("count", [1, 3, 8])
def test_latency_of_the_whole_selector(engine: MakeEngine, count: int) -> None:
    config = engine(whole_rows=8)
    dut = WholeSelector(config, load_bits=LOAD_BITS)
    rows = rows_of(Vector([9] * 2 * count, 0), 2)
    _, last = first_and_last_row_out(dut, rows, 2 * count)
    assert last == 4 * count + 22
