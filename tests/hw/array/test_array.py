import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.models.array import pair_sums, step_sums
from trencadis_format.timing import array_latency
from trencadis_hw.array.banked_array import BankedArray
from trencadis_hw.array.tree_array import TreeArray
from trencadis_hw.engine import array_class
from trencadis_sim.testbench.streams import Context, plain, simulate

SHAPES: list[dict[str, Any]] = [
    {"lanes": 1, "tiles": 2, "kernels_per_tile": 1},
    {"lanes": 3, "tiles": 2, "kernels_per_tile": 3},
    {"lanes": 5, "tiles": 4, "kernels_per_tile": 4},
    {"lanes": 4, "tiles": 2, "kernels_per_tile": 2, "sum_bits": 18},
]
GROUPED: list[dict[str, Any]] = [
    {"lanes": 4, "tiles": 2, "kernels_per_tile": 3, "groups": 2},
    {"lanes": 3, "tiles": 2, "kernels_per_tile": 2, "groups": 3},
]
CASES = [{"routing": "banked", **shape} for shape in SHAPES + GROUPED]
CASES += [{"routing": "trees", **shape} for shape in SHAPES]
CASES += [
    {"routing": "split-trees", **shape}
    for shape in (
        {"lanes": 2, "tiles": 2, "kernels_per_tile": 1},
        {"lanes": 6, "tiles": 2, "kernels_per_tile": 3},
        {"lanes": 10, "tiles": 4, "kernels_per_tile": 2, "sum_bits": 18},
    )
]


class Step:
    """Random operands of a step, some of them extreme, and its flags."""

    def __init__(self, config: EngineConfig, generator: random.Random, number: int) -> None:
        # With split trees, every second step is one of two windows.
        self.split: int | None = None
        cycles = generator.randint(1, 2 * config.beats + 2)
        if config.routing == "split-trees" and number % 2:
            self.split = generator.randint(1, 3)
            cycles = self.split + generator.randint(2, 4)
        self.rng = np.random.default_rng(generator.randrange(1 << 32))
        shape = (cycles, config.lanes)
        self.values = self.rng.integers(-256, 256, shape)
        self.weights = self.rng.integers(-128, 128, (*shape, config.tiles))
        if number % 3 == 0:
            self.values = self.rng.choice([-256, 255], shape)
            self.weights = self.rng.choice([-128, 127], (*shape, config.tiles))
        self.combine = config.groups > 1 and bool(generator.randrange(2))
        self.discard = number == 0 or generator.random() < 0.2
        self.beats = config.beats if self.discard else generator.randint(1, config.beats)
        # What is not drained now would be part of a later step's sums.
        kernels = self.beats if config.routing == "banked" else config.kernels_per_tile
        self.kernels = self.rng.integers(0, kernels, (*shape, config.tiles))
        self.flags = [
            {
                "layer": number % 16,
                "pool_first": generator.randrange(2),
                "pool_last": generator.randrange(2),
                "vector_end": generator.randrange(2),
            }
            for _ in range(1 if self.split is None else 2)
        ]

    def expected(self, config: EngineConfig) -> list[dict[str, Any]]:
        if self.discard:
            return []
        operands = config, self.values, self.weights, self.kernels
        if self.split is not None:
            return [
                {"sums": sums.tolist(), "beat": 0, **flags}
                for sums, flags in zip(pair_sums(*operands, self.split), self.flags, strict=True)
            ]
        sums = step_sums(*operands, combine=self.combine)
        beats = []
        for number in range(self.beats):
            flags = dict(self.flags[0])
            if config.routing == "banked":
                flags["vector_end"] &= number == self.beats - 1
            beats.append({"sums": sums[number].tolist(), "beat": number, **flags})
        return beats


def weight_row(config: EngineConfig, weights: Any, kernels: Any) -> dict[str, int]:
    row = {}
    for tile in range(config.tiles):
        borrow = tile % 2 and weights[tile - 1] < 0
        row[f"weight{tile}"] = int(weights[tile] - borrow)
        row[f"kernel{tile}"] = int(kernels[tile])
    return row


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("idle", [0.0, 0.3])
def test_sums_equal_model(
    engine: Callable[..., EngineConfig], case: dict[str, Any], idle: float
) -> None:
    config = engine(requantisers=1, **case)
    dut = array_class(config)(config)
    assert isinstance(dut, BankedArray if config.routing == "banked" else TreeArray)
    generator = random.Random(f"{case} {idle}")
    steps = [Step(config, generator, number) for number in range(24)]
    last_at: list[int] = []
    beats_at: list[int] = []
    results: list[dict[str, Any]] = []

    async def drive(ctx: Context) -> None:
        now = spent = beats = 0
        for step in steps:
            cycles = len(step.values)
            for cycle in range(cycles):
                split = cycle == step.split
                last = cycle == cycles - 1 or split
                # A step takes at least as long as the step before has beats to drain.
                while generator.random() < idle or (last and now + 1 - spent < beats):
                    ctx.set(dut.step, {})
                    ctx.set(dut.values, [0] * config.lanes)
                    await ctx.tick()
                    now += 1
                ctx.set(
                    dut.step,
                    {
                        "first": cycle == 0,
                        "last": last,
                        "split": split,
                        "beats": step.beats - 1,
                        "combine": step.combine,
                        "discard": step.discard,
                        **step.flags[step.split is not None and cycle > step.split],
                    },
                )
                ctx.set(dut.values, step.values[cycle].tolist())
                ctx.set(
                    dut.weights,
                    [
                        weight_row(config, step.weights[cycle, lane], step.kernels[cycle, lane])
                        for lane in range(config.lanes)
                    ],
                )
                await ctx.tick()
                now += 1
                if last and not step.discard:
                    last_at.append(now - 1)
            spent, beats = now, step.beats
        ctx.set(dut.step, {})
        ctx.set(dut.values, [0] * config.lanes)
        for _ in range(array_latency(config) + config.beats + 2):
            await ctx.tick()

    async def read(ctx: Context) -> None:
        now = 0
        while True:
            _, _, valid, beat = await ctx.tick().sample(dut.valid, dut.beat)
            if valid:
                results.append(plain(beat))
                beats_at.append(now)
            now += 1

    simulate(dut, drive, background=[read])
    expected = [step.expected(config) for step in steps]
    assert results == [beat for step in expected for beat in step]
    firsts = [at for at, beat in zip(beats_at, results, strict=True) if beat["beat"] == 0]
    assert [first - last for first, last in zip(firsts, last_at, strict=True)] == [
        array_latency(config)
    ] * len(last_at)
