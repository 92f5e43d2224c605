import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.models.pool import pooled_sums
from trencadis_hw.output.pool import Pool
from trencadis_sim.testbench.streams import Context, plain, simulate


@pytest.mark.parametrize("kernels", [1, 3, 4])
@pytest.mark.parametrize("routing", ["banked", "trees"])
@pytest.mark.parametrize("idle", [0.0, 0.4])
def test_maxima_equal_model(
    engine: Callable[..., EngineConfig], kernels: int, routing: str, idle: float
) -> None:
    config = engine(kernels_per_tile=kernels, routing=routing, requantisers=1, sum_bits=18)
    dut = Pool(config)
    generator = random.Random(f"{kernels} {routing} {idle}")
    rng = np.random.default_rng(kernels)
    half = 1 << 17
    beats: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []
    for window in range(20):
        steps = generator.choice([1, 2, 4])
        used = generator.randint(1, config.beats)
        shape = (steps, used, config.columns)
        sums = rng.integers(-half, half, shape)
        if window % 4 == 0:
            sums = rng.choice([-half, half - 1, -1, 0], shape)
        layer = window % 16
        for step in range(steps):
            for beat in range(used):
                beats.append(
                    {
                        "sums": sums[step, beat].tolist(),
                        "beat": beat,
                        "layer": layer,
                        "pool_first": int(step == 0),
                        "pool_last": int(step == steps - 1),
                        "vector_end": int(beat == used - 1),
                    }
                )
        largest = pooled_sums(sums)
        last = beats[-used:]
        expected += [{**beat, "sums": largest[i].tolist()} for i, beat in enumerate(last)]
    results = []

    async def drive(ctx: Context) -> None:
        for beat in beats:
            while generator.random() < idle:
                ctx.set(dut.valid, 0)
                await ctx.tick()
            ctx.set(dut.valid, 1)
            ctx.set(dut.beat, beat)
            await ctx.tick()
            if ctx.get(dut.pooled_valid):
                assert beat["pool_last"]
                results.append(plain(ctx.get(dut.pooled)))

    simulate(dut, drive)
    assert results == expected
