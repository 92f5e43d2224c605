"""Map engines: the RTL gives what the emulator gives, on random programs and under stalls."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.map_graphs import GRAPHS, write_graph
from fixtures.map_programs import map_kernel, random_map_overlay

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.options import Options
from trencadis_format.overlay import Overlay
from trencadis_format.tensors import pack_inputs
from trencadis_host.devices.maps.device import MapEmulator
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_sim.verilated.device import Simulator

pytestmark = pytest.mark.rtl

KERNELS: dict[str, dict[str, Any]] = {
    # Rows of several pieces, of one, and smaller ones than a beat.
    "wide": {"lanes": 8, "tiles": 4, "row_values": 16, "kernels_per_tile": 8},
    "square": {},
    "narrow": {"lanes": 2, "tiles": 4, "row_values": 4, "kernels_per_tile": 3, "bus_bits": 128},
}


def batch(overlay: Overlay, count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    samples = np.zeros((count, overlay.input_bytes), np.uint8)
    size = overlay.input.sample_bytes
    keys = generator.integers(0, 256, (count, size))
    samples[:, :size] = np.where(
        generator.random((count, size)) < 0.5, overlay.input.zero_key, keys
    )
    return samples


@pytest.mark.parametrize("shape", KERNELS)
def test_rtl_equals_emulator(shape: str, build_dir: Path) -> None:
    kernel = map_kernel(weight_rows=4096, requantise_rows=512, **KERNELS[shape])
    options = DeviceOptions(build_dir=build_dir, timeout_s=60)
    for seed in range(12):
        overlay = random_map_overlay(kernel, seed, layers=1 + seed % 6)
        overlay.check()
        samples = batch(overlay, 3, seed)
        expected, _ = MapEmulator(overlay).run(samples)
        with Simulator(overlay, options, stall=80 * (seed % 2), seed=seed) as device:
            found, _ = device.run(samples)
            again, _ = device.run(samples[::-1].copy())
        assert np.array_equal(found, expected), f"seed {seed}"
        assert np.array_equal(again, expected[::-1]), f"seed {seed}, the second run"


def test_a_run_after_an_aborted_one_is_right(build_dir: Path) -> None:
    kernel = map_kernel(weight_rows=4096, requantise_rows=512)
    options = DeviceOptions(build_dir=build_dir, timeout_s=60)
    overlay = random_map_overlay(kernel, 3, layers=6)
    samples = batch(overlay, 4, 3)
    expected, _ = MapEmulator(overlay).run(samples)
    with Simulator(overlay, options) as device:
        for cycles in range(4800, 7200, 149):
            device.start(samples)
            device.kernel.advance(cycles)
            device.reset()
            found, _ = device.run(samples)
            assert np.array_equal(found, expected), f"reset after {cycles} cycles"


@pytest.mark.parametrize("name", GRAPHS)
def test_networks_with_branches_run_whole(name: str, build_dir: Path, tmp_path: Path) -> None:
    path, board = write_graph(name, tmp_path), load_board("sim")
    options = Options(sized=True, strict=True)
    form = compile_model(path, board, options=options).compiled.inputs[0]
    shape = [size or 3 for size in form.shape]
    inputs = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    # Between the first output and the last one are the cycles of the last two inputs.
    made = compile_model(path, board, options=options, calibration=inputs[1:])
    (part,) = made.parts
    assert isinstance(part, CompiledMaps)
    samples = pack_inputs(part.overlay, inputs)
    expected, _ = MapEmulator(part.overlay).run(samples)
    assert len(np.unique(expected)) > 4
    with Simulator(part.overlay, DeviceOptions(build_dir=build_dir, timeout_s=60)) as device:
        found, statistics = device.run(samples)
    assert np.array_equal(found, expected)
    assert statistics.output_interval == pytest.approx(part.cycles, rel=0.03)
