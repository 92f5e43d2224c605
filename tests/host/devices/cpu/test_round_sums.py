"""Sums as the kernel rounds them, against exact arithmetic."""

from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from trencadis_format.rounding import scaled_sums
from trencadis_host.devices.cpu.emit import I32, I64, Emitter
from trencadis_host.devices.cpu.jit import compile_module
from trencadis_host.devices.cpu.paths import Path, runnable_paths
from trencadis_host.devices.cpu.round_sums import emit_rounded_sum

F64 = ir.DoubleType()
RNG = np.random.default_rng(9)


class Nothing:
    """Keeps no code."""

    def code(self, name: str, build: Any) -> bytes:
        return build()


@pytest.fixture(params=runnable_paths(), ids=lambda path: path.name)
def rounded(request: pytest.FixtureRequest) -> Any:
    """A function of arrays of sums, scales and offsets."""
    module = ir.Module("sums")
    e = Emitter(module, "sums", 5)
    sums, scales, offsets, target, count = e.arguments
    with e.loop(I64(0), count) as i:
        total = e.load(I32, e.scaled(sums, i, 4), 4)
        scale, offset = (e.load(F64, e.scaled(of, i, 8), 8) for of in (scales, offsets))
        e.store(emit_rounded_sum(e, total, scale, offset), e.scaled(target, i, 4))
    e.finish()
    path: Path = request.param
    code = compile_module(module, path, Nothing())  # type: ignore[arg-type]
    function = code.function("sums", 5)

    def run(sums: Any, scales: Any, offsets: Any) -> Any:
        found = np.empty(len(sums), np.float32)
        arrays = [np.array(sums, np.int32), np.array(scales), np.array(offsets), found]
        assert code  # it lives as long as this function
        function(*(array.ctypes.data for array in arrays), len(sums))
        return found

    return run


def test_usual_numbers(rounded: Any) -> None:
    sums = RNG.integers(-(1 << 31), 1 << 31, 20_000)
    scales, offsets = 10 ** RNG.uniform(-12, 3, 20_000), RNG.normal(0, 100, 20_000)
    assert np.array_equal(rounded(sums, scales, offsets), scaled_sums(sums, scales, offsets))
    nothing = np.zeros(20_000)
    assert np.array_equal(rounded(sums, scales, nothing), scaled_sums(sums, scales, nothing))


def test_what_float64_puts_halfway(rounded: Any) -> None:
    """Scales for which a sum is next to the middle of two float32 numbers."""
    sums = RNG.integers(1 << 20, 1 << 21, 20_000) | 1
    middles = RNG.integers(1 << 23, 1 << 24, 20_000) + 0.5
    scales, nothing = middles / sums, np.zeros(20_000)
    right = scaled_sums(sums, scales, nothing)
    assert np.count_nonzero((sums * scales).astype(np.float32) != right) > 1000
    assert np.array_equal(rounded(sums, scales, nothing), right)
    assert np.array_equal(rounded(-sums, scales, nothing), -right)


def test_what_cancels(rounded: Any) -> None:
    sums = RNG.integers(-(1 << 31), 1 << 31, 5000)
    scales = 10 ** RNG.uniform(-6, 1, 5000)
    offsets = -(sums * scales) * (1 + RNG.integers(-3, 4, 5000) * 2.0**-53)
    assert np.array_equal(rounded(sums, scales, offsets), scaled_sums(sums, scales, offsets))
