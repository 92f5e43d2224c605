"""The simulator as a device: what is left of a run that did not end, and closing."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_host import errors as faults
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_sim.verilated import device as device_module
from trencadis_sim.verilated.device import SimulatedKernel, Simulator
from trencadis_sim.verilated.verilator import SimulatorError

pytestmark = pytest.mark.rtl

SIGNATURE = re.compile(r"[\w* ]+ \*?trencadis_\w+\([^)]*\)")


@pytest.fixture
def case(make_case: Callable[..., Any], specs: dict[str, Any]) -> Any:
    return make_case(specs["exact-winners"], "groups", samples=9)


@pytest.fixture
def simulator(case: Any, build_dir: Path) -> Iterator[Simulator]:
    with Simulator(case.overlay, DeviceOptions(build_dir=build_dir, timeout_s=4)) as opened:
        yield opened


@contextmanager
def interrupted(kernel: SimulatedKernel, name: str, calls: int) -> Iterator[None]:
    """Ctrl-C in one of the calls of a method of the kernel, after it was made."""
    method = getattr(kernel, name)
    left = calls

    def call(*arguments: Any) -> Any:
        nonlocal left
        result = method(*arguments)
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, name, call)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize(("name", "calls"), [("advance", 1), ("write", 5), ("write", 15)])
def test_ctrl_c_leaves_nothing_for_the_next_run(
    simulator: Simulator,
    case: Any,
    monkeypatch: pytest.MonkeyPatch,
    loaded: bool,
    name: str,
    calls: int,
) -> None:
    monkeypatch.setattr(device_module, "SLICE_CYCLES", 300)
    if loaded:
        simulator.run(case.inputs)
    with interrupted(simulator.kernel, name, calls):
        simulator.run(case.inputs)
    outputs, statistics = simulator.run(case.inputs[3:])
    assert np.array_equal(outputs, case.expected[3:])
    assert statistics.load_cycles


def test_a_run_that_takes_too_long(case: Any, build_dir: Path) -> None:
    options = DeviceOptions(build_dir=build_dir, timeout_s=0.05)
    with Simulator(case.overlay, options, latency_cycles=1 << 30) as simulator:
        with pytest.raises(
            faults.DeviceTimeoutError, match=r"^device sim: no result after 0\.05 s"
        ):
            simulator.run(case.inputs)
        simulator.kernel.set_timing(latency_cycles=40, stall=0, seed=0)
        simulator._options = DeviceOptions(timeout_s=60)
        assert np.array_equal(simulator.run(case.inputs)[0], case.expected)


def test_a_closed_simulator(simulator: Simulator, case: Any) -> None:
    simulator.close()
    with pytest.raises(faults.DeviceAbortedError, match=r"^device sim is closed"):
        simulator.run(case.inputs)
    with pytest.raises(SimulatorError, match="the simulation is closed"):
        simulator.kernel.read(0)
    with pytest.raises(SimulatorError, match="the simulation is closed"):
        simulator.kernel.grow(1 << 30)
    simulator.close()


def test_the_header_for_other_kernels_is_of_the_functions_there_are() -> None:
    folder = files("trencadis_sim.verilated")
    header, harness = (
        {
            text.replace("(void)", "()")
            for text in SIGNATURE.findall(folder.joinpath(name).read_text())
        }
        for name in ("simulated_kernel.h", "harness.cpp")
    )
    functions = {text.partition("trencadis_")[2].partition("(")[0] for text in header}
    assert header == harness
    assert functions == set(device_module._SIGNATURES)


def test_a_library_that_lacks_functions_is_refused() -> None:
    with pytest.raises(
        SimulatorError, match=r"has no function trencadis_open; see simulated_kernel"
    ):
        SimulatedKernel(Path("libc.so.6"), 0)
