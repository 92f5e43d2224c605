import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SERIALISE, gather_record, scatter_record
from trencadis_format.models.reorder import reordered
from trencadis_hw.output.reorder import VECTORS, WAITING_ROWS, Reorder
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, Monitor, Sink, simulate

LOAD_BITS = 256
KEY_LATENCY = 4
MakeEngine = Callable[..., EngineConfig]


@dataclass
class Layer:
    """A layer's tables, with the index of the activation in every place of every group, or -1."""

    scatter: list[dict[str, int]]
    gather: list[dict[str, int]]
    places: npt.NDArray[np.int64]
    last_count: int


def random_layer(rows: int, banks: int, last_count: int, seed: int) -> Layer:
    """Kernels in random order: every bank gets one activation of every row, in another order."""
    rng = np.random.default_rng(seed)
    row_of = np.stack([rng.permutation(rows) for _ in range(banks)], axis=1)
    source_of = np.stack([rng.permutation(banks) for _ in range(rows)])
    position_of = np.stack([rng.permutation(banks) for _ in range(rows)])
    places = np.full((rows, banks), -1)
    scatter, gather = [], [{f"bank{i}": 0 for i in range(banks)} for _ in range(rows)]
    for group in range(rows):
        entry = {}
        for bank in range(banks):
            row = int(row_of[group, bank])
            source = int(source_of[group, bank])
            position = int(position_of[row, bank])
            valid = row < rows - 1 or position < last_count
            entry |= {f"source{bank}": source, f"row{bank}": row, f"valid{bank}": int(valid)}
            gather[row][f"bank{position}"] = bank
            if valid:
                places[group, source] = row * banks + position
        scatter.append(entry)
    return Layer(scatter, gather, places, last_count)


@pytest.mark.parametrize("banks", [1, 2, 4])
def test_model_gives_index_order(banks: int) -> None:
    rows = 5
    layer = random_layer(rows, banks, last_count=1, seed=banks)
    vector = np.arange(100, 100 + rows * banks)
    groups = np.where(layer.places >= 0, vector[layer.places], 77)
    result = reordered(groups, layer.scatter, layer.gather).reshape(-1)
    count = (rows - 1) * banks + 1
    assert np.array_equal(result[:count], vector[:count])
    assert np.all(result[count:] == -1)


@pytest.mark.parametrize("batch_lanes", [1, 2])
@pytest.mark.parametrize("banks", [1, 2, 4])
@pytest.mark.parametrize(("gap", "stall"), [(0.0, 0.0), (0.0, 0.7), (0.5, 0.0), (0.3, 0.4)])
def test_vectors_come_in_index_order(
    engine: MakeEngine, batch_lanes: int, banks: int, gap: float, stall: float
) -> None:
    config = engine(tiles=4, requantisers=banks, requantise_rows=32)
    dut = Reorder(config, batch_lanes=batch_lanes, key_latency=KEY_LATENCY, load_bits=LOAD_BITS)
    seed = f"{batch_lanes} {banks} {gap} {stall}"
    generator, rng = random.Random(seed), np.random.default_rng(len(seed))
    shapes = [(1, 1), (3, banks), (7, 1), (11, -(-banks // 2))]
    layers = [random_layer(*shape[:1], banks, shape[1], n) for n, shape in enumerate(shapes)]
    bases = np.cumsum([0] + [len(layer.scatter) for layer in layers]).tolist()
    vectors = [generator.randrange(len(layers)) for _ in range(40)]
    expected: list[Any] = []
    groups: list[tuple[int, int, bool, npt.NDArray[np.int64]]] = []
    for number in vectors:
        layer = layers[number]
        count = len(layer.gather)
        keys = rng.integers(0, 256, (batch_lanes, count * banks))
        for group, places in enumerate(layer.places):
            garbage = rng.integers(0, 256, (batch_lanes, banks))
            here = np.where(places >= 0, keys[:, places], garbage)
            groups.append((number, bases[number] + group, group == count - 1, here))
        for row in range(count):
            last = row == count - 1
            expected.append((keys[:, row * banks : (row + 1) * banks], row, last, number))
    outputs = dut.rows
    sinks = [
        Sink(output, len(expected), stall=stall, seed=8 + sample)
        for sample, output in enumerate(outputs)
    ]

    async def drive(ctx: Context) -> None:
        serialise = [
            SERIALISE.pack(
                **{field.name: 0 for field in SERIALISE.fields}
                | {
                    "vector_rows": len(layer.gather) - 1,
                    "gather_base": base,
                    "last_count": layer.last_count - 1,
                }
            )
            for layer, base in zip(layers, bases, strict=False)
        ]
        await load_rows(ctx, dut.load, Target.SERIALISE, serialise)
        scatter = [scatter_record(banks).pack(**e) for layer in layers for e in layer.scatter]
        await load_rows(ctx, dut.load, Target.SCATTER, scatter)
        gather = [gather_record(banks).pack(**e) for layer in layers for e in layer.gather]
        await load_rows(ctx, dut.load, Target.GATHER, gather)
        assert ctx.get(dut.free_rows) == config.reorder_rows

        coming: deque[npt.NDArray[np.int64] | None] = deque([None] * KEY_LATENCY)
        inside = False
        waiting = list(reversed(groups))
        while waiting or any(keys is not None for keys in coming):
            keys = coming.popleft()
            if keys is not None:
                ctx.set(dut.keys, keys.tolist())
            go = bool(waiting) and generator.random() >= gap
            if go and not inside:
                count = len(layers[waiting[-1][0]].gather)
                go = ctx.get(dut.free_rows) >= count
                ctx.set(dut.reserve, count if go else 0)
            ctx.set(dut.valid, go)
            if go:
                layer, row, end, here = waiting.pop()
                ctx.set(dut.row, row)
                ctx.set(dut.layer, layer)
                ctx.set(dut.vector_end, end)
                inside = not end
                coming.append(here)
            else:
                coming.append(None)
            await ctx.tick()
            ctx.set(dut.reserve, 0)
            ctx.set(dut.valid, 0)

    simulate(dut, drive, *sinks, background=[Monitor(output, "reorder") for output in outputs])
    for sample, sink in enumerate(sinks):
        for came, (keys, row, last, number) in zip(sink.payloads, expected, strict=True):
            used = layers[number].last_count if last else banks
            assert came["keys"][:used] == keys[sample, :used].tolist()
            del came["keys"]
            assert came == {
                "mask": (1 << used) - 1,
                "number": row,
                "last": int(last),
                "layer": number,
            }


def test_key_latency_is_checked(engine: MakeEngine) -> None:
    with pytest.raises(ValueError, match=r"^key_latency must be at least 2 cycles, not 1$"):
        Reorder(engine(), batch_lanes=1, key_latency=1, load_bits=LOAD_BITS)


def test_latency(engine: MakeEngine) -> None:
    """From a vector's last group, with its keys, to its first row."""
    dut = Reorder(engine(), batch_lanes=1, key_latency=2, load_bits=LOAD_BITS)
    latency = None

    async def drive(ctx: Context) -> None:
        nonlocal latency
        ctx.set(dut.valid, 1)
        ctx.set(dut.vector_end, 1)
        ctx.set(dut.reserve, 1)
        await ctx.tick()
        ctx.set(dut.valid, 0)
        ctx.set(dut.reserve, 0)
        await ctx.tick()  # the keys are there
        for cycle in range(20):
            if ctx.get(dut.rows[0].valid):
                latency = cycle
                break
            await ctx.tick()

    simulate(dut, drive)
    assert latency == 4


def test_no_more_vectors_than_are_kept_apart(engine: MakeEngine) -> None:
    """Of vectors of one row fewer fit than there are rows; a row that leaves makes room again."""
    config = engine(reorder_rows=2 * VECTORS)
    dut = Reorder(config, batch_lanes=1, key_latency=2, load_bits=LOAD_BITS)

    async def drive(ctx: Context) -> None:
        ctx.set(dut.reserve, 1)
        ctx.set(dut.valid, 1)
        ctx.set(dut.vector_end, 1)
        # Those waiting after the memory have left it.
        for _ in range(VECTORS + WAITING_ROWS):
            assert ctx.get(dut.free_rows) > 0
            await ctx.tick()
        ctx.set(dut.reserve, 0)
        ctx.set(dut.valid, 0)
        for _ in range(10):
            assert ctx.get(dut.free_rows) == 0
            await ctx.tick()
        ctx.set(dut.rows[0].ready, 1)
        for _ in range(VECTORS + WAITING_ROWS):
            assert ctx.get(dut.rows[0].valid)
            await ctx.tick()
        assert not ctx.get(dut.rows[0].valid)
        assert ctx.get(dut.free_rows) == config.reorder_rows

    simulate(dut, drive)
