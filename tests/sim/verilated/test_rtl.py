"""The RTL of whole kernels: outputs against exact arithmetic, cycles against the plan."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_format.image import HEADER, Block, Target, pack_blocks
from trencadis_format.registers import Register
from trencadis_host.devices.protocol import DeviceError, DeviceOptions
from trencadis_sim.verilated.device import Simulator

pytestmark = pytest.mark.rtl

MakeCase = Callable[..., Any]


@contextmanager
def simulator(case: Any, build_dir: Path, **timing: int) -> Iterator[Simulator]:
    options = DeviceOptions(build_dir=build_dir, timeout_s=30)
    with Simulator(case.overlay, options, **timing) as device:
        yield device


@pytest.mark.parametrize("stall", [0, 60, 200])
def test_equals_exact_arithmetic(
    make_case: MakeCase, build_dir: Path, spec: Any, kernel: str, stall: int
) -> None:
    # An odd number of samples: not all cores, nor both samples in lockstep, are busy to the end.
    case = make_case(spec, kernel, samples=13)
    with simulator(case, build_dir, stall=stall, seed=stall, latency_cycles=stall) as device:
        for samples in (13, 1, 2, 3):
            outputs, statistics = device.run(case.inputs[:samples])
            assert np.array_equal(outputs, case.expected[:samples])
            assert statistics.samples == samples


def check_cycles(case: Any, build_dir: Path) -> None:
    """Run samples, compare them, and compare the cycles of further ones with the plan."""
    group = case.overlay.kernel.cores * case.overlay.kernel.core.batch_lanes
    taken = []
    with simulator(case, build_dir) as device:
        for samples in (40, 64):
            outputs, statistics = device.run(case.inputs[:samples])
            assert np.array_equal(outputs, case.expected[:samples])
            assert statistics.cycles is not None
            assert statistics.load_cycles is not None
            taken.append(statistics.cycles - statistics.load_cycles)
    planned = 24 / group * case.schedule.period
    if case.schedule.static:
        # Where in a burst the last beat falls, and long walks of lists that lanes own, make some
        # cycles of difference in all, but not one per sample.
        assert abs(taken[1] - taken[0] - planned) <= 8
    else:
        # An expectation, from bounds of what a layer may wait for.
        assert 0.7 * planned < taken[1] - taken[0] < 1.05 * planned


def test_cycles_per_inference_are_those_planned(
    make_case: MakeCase, build_dir: Path, spec: Any, kernel: str
) -> None:
    check_cycles(make_case(spec, kernel, samples=64), build_dir)


@pytest.mark.parametrize("seed", range(100, 108))
def test_random_networks_take_what_was_planned(
    make_case: MakeCase, build_dir: Path, random_spec: Any, kernel: str, seed: int
) -> None:
    check_cycles(make_case(random_spec(seed), kernel, samples=64, seed=seed), build_dir)


@pytest.mark.parametrize("name", ["exact-winners", "sparse-map", "sparse-vector"])
@pytest.mark.parametrize("seed", range(6))
def test_runs_after_an_abort(
    make_case: MakeCase, build_dir: Path, specs: Any, kernel: str, seed: int, name: str
) -> None:
    rng = random.Random(seed)
    case = make_case(specs[name], kernel, samples=9)
    with simulator(case, build_dir, stall=40, seed=seed) as device:
        last = 400  # While the image is loaded.
        if rng.random() < 0.7:
            _, statistics = device.run(case.inputs)
            assert statistics.cycles is not None
            assert statistics.load_cycles is not None
            last = statistics.cycles - statistics.load_cycles - 50
        device.start(case.inputs)
        device.kernel.advance(rng.randrange(1, last))
        device.kernel.write(Register.ABORT, 1)
        with pytest.raises(DeviceError, match=r"^device sim: the run was aborted$"):
            device.finish()
        outputs, _ = device.run(case.inputs)
        assert np.array_equal(outputs, case.expected)


@pytest.mark.parametrize("name", ["relu-stride-dilation", "sparse-map", "sparse-vector"])
@pytest.mark.parametrize("seed", range(6))
def test_runs_after_a_reset(
    make_case: MakeCase, build_dir: Path, specs: Any, kernel: str, seed: int, name: str
) -> None:
    rng = random.Random(seed)
    case = make_case(specs[name], kernel, samples=9)
    with simulator(case, build_dir, stall=40, seed=seed) as device:
        device.start(case.inputs)
        device.kernel.advance(rng.randrange(1, 4000))
        device.reset()
        outputs, _ = device.run(case.inputs)
        assert np.array_equal(outputs, case.expected)


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        ("image_address", "reading device memory failed"),
        ("input_address", "reading device memory failed"),
        ("output_address", "writing device memory failed"),
        ("statistics_address", "statistics of version 0"),
    ],
)
def test_bus_errors_are_named(
    make_case: MakeCase, build_dir: Path, specs: Any, kernel: str, buffer: str, message: str
) -> None:
    case = make_case(specs["exact-winners"], kernel, samples=5)
    with simulator(case, build_dir) as device:
        device.start(case.inputs)
        device.kernel.fail(getattr(device, buffer), 16)
        with pytest.raises(DeviceError, match=f"^device sim: {message}"):
            device.finish()
        device.kernel.fail(0, 0)
        outputs, _ = device.run(case.inputs)
        assert np.array_equal(outputs, case.expected)


def test_an_image_for_other_hardware_is_refused(
    make_case: MakeCase, build_dir: Path, specs: Any, kernel: str
) -> None:
    case = make_case(specs["exact-winners"], kernel, samples=5)
    header = pack_blocks([Block(Target.HEADER, [HEADER.pack(version=1, configuration=1)], 96)])
    image = header + case.overlay.image[len(header) :]
    with simulator(replace(case, overlay=replace(case.overlay, image=image)), build_dir) as device:
        with pytest.raises(DeviceError, match=r"^device sim: it refused the image.*compile"):
            device.run(case.inputs)
        assert not device.kernel.memory[device.output_address :].any()


def test_a_run_without_image_is_refused(
    make_case: MakeCase, build_dir: Path, specs: Any, kernel: str
) -> None:
    case = make_case(specs["exact-winners"], kernel, samples=5)
    with simulator(case, build_dir) as device:
        device.run(case.inputs)
        device.kernel.reset()
        with pytest.raises(DeviceError, match=r"^device sim: no image was loaded before the run$"):
            device.run(case.inputs)
        outputs, _ = device.run(case.inputs)
        assert np.array_equal(outputs, case.expected)


def test_no_result_in_time_is_an_error(
    make_case: MakeCase, build_dir: Path, specs: Any, kernel: str
) -> None:
    case = make_case(specs["exact-winners"], kernel, samples=5)
    options = DeviceOptions(build_dir=build_dir, timeout_s=0.2)
    with Simulator(case.overlay, options) as device:
        # Memory that always stalls.
        device.kernel.set_timing(latency_cycles=40, stall=256, seed=1)
        with pytest.raises(DeviceError, match=r"^device sim: no result after 0\.2 s; give it more"):
            device.run(case.inputs)
        device.kernel.set_timing(latency_cycles=40, stall=0, seed=1)
        outputs, _ = device.run(case.inputs)
        assert np.array_equal(outputs, case.expected)
