"""The kernel's ports as others model them: benches of cocotb with the memory of cocotbext-axi."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_host.devices.emulator.device import Emulator
from trencadis_sim.benches.run import BenchCase, BenchError, bench_top, run_bench

pytestmark = pytest.mark.rtl

MakeCase = Callable[..., Any]
SAMPLES = 5


@pytest.fixture
def bench_case(make_case: MakeCase, specs: Any) -> BenchCase:
    """A small network for the smallest kernel, with outputs of the emulator."""
    case = make_case(specs["exact-winners"], "groups", samples=SAMPLES)
    with Emulator(case.overlay) as device:
        expected, _ = device.run(case.inputs)
    assert len(np.unique(expected, axis=0)) == SAMPLES
    return BenchCase(case.overlay.kernel, case.overlay.image, case.inputs, expected)


def test_benches_pass(bench_case: BenchCase, build_dir: Path, tmp_path: Path) -> None:
    assert run_bench(bench_case, build_dir, tmp_path) == 5


def test_a_wrong_sample_fails(bench_case: BenchCase, build_dir: Path, tmp_path: Path) -> None:
    expected = bench_case.expected.copy()
    expected[-1, 0] ^= 1
    wrong = replace(bench_case, expected=expected)
    with pytest.raises(BenchError, match=r"^1 of 1 benches failed; see .*bench\.log$"):
        run_bench(wrong, build_dir, tmp_path, only=["samples_come_out_right/stall=0.0"])


def test_no_bench_is_an_error(bench_case: BenchCase, build_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError):
        run_bench(bench_case, build_dir, tmp_path, only=["no_such_bench"])


def test_top_has_ids(bench_case: BenchCase) -> None:
    text = bench_top(bench_case.kernel)
    for port in ("output [0:0] m_axi_gmem_arid", "input [0:0] m_axi_gmem_bid"):
        assert port in text
