"""The same demands on every device."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_format.overlay import Overlay
from trencadis_host import InputError, Session
from trencadis_host import errors as faults
from trencadis_host.devices.cpu.device import open_device as open_cpu
from trencadis_host.devices.emulator.device import open_device as open_emulator
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_sim.hw_emu.device import open_device as open_hw_emu
from trencadis_sim.verilated.device import open_device as open_simulator

OPENERS: dict[str, tuple[Callable[..., Any], str]] = {
    "emulator": (open_emulator, ""),
    "cpu": (open_cpu, ""),
    "sim": (open_simulator, ""),
    "hw_emu": (open_hw_emu, ""),
    "hw_emu:2x2": (open_hw_emu, "2x2"),
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in ("emulator", "cpu") else [pytest.mark.rtl])
        for name in OPENERS
    ],
)
def device(request: pytest.FixtureRequest, overlay: Overlay, build_dir: Path) -> Iterator[Any]:
    if request.param.startswith("hw_emu"):
        request.getfixturevalue("xrt_library")
    opener, argument = OPENERS[request.param]
    with opener(argument, overlay, DeviceOptions(build_dir=build_dir, timeout_s=60)) as opened:
        yield opened


@pytest.fixture
def session(device: Any, image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session on the device, which stays open."""

    class Kept:
        def __init__(self) -> None:
            self.run = device.run
            if hasattr(device, "submit"):
                self.submit = device.submit

        def close(self) -> None:
            pass

    monkeypatch.setattr("trencadis_host.session.open_device", lambda *arguments: Kept())
    with Session(image) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_results_are_those_of_the_emulator(device, samples, expected, count: int) -> None:
    packed = samples(count, seed=count)
    results, statistics = device.run(packed)
    assert results.dtype == np.uint8
    assert np.array_equal(results, expected(packed))
    assert statistics.samples == count


def test_cycles_are_counted_in_the_kernel(device, samples) -> None:
    device.run(samples(16))
    _, statistics = device.run(samples(16))
    if device.name == "emulator" or device.name.startswith("cpu:"):
        assert statistics.cycles is None
        return
    assert statistics.load_cycles == 0
    assert 0 < statistics.busy_cycles < statistics.cycles
    # The array needs as long for every sample, and nothing else takes longer.
    units = getattr(device, "units", 1)
    assert statistics.output_interval == pytest.approx(35 / units, rel=0.1)


@pytest.fixture(scope="module")
def on_emulator(image: Path) -> Iterator[Session]:
    """Results of the emulator, to compare with."""
    with Session(image) as opened:
        yield opened


def test_submitted_batches_are_all_computed(session: Session, on_emulator: Session) -> None:
    rng = np.random.default_rng(5)
    batches = [rng.normal(size=(count, 16)).astype(np.float32) for count in (3, 1, 8, 2)]
    futures = [session.submit(None, {"x": batch}) for batch in batches]
    for batch, future in zip(batches, futures, strict=True):
        (expected,) = on_emulator.run(None, {"x": batch})
        assert np.array_equal(future.result(60)[0], expected)
        assert np.array_equal(session.run(["out"], {"x": batch})[0], expected)
        assert len(np.unique(expected)) > 1


def test_batches_are_awaited(session: Session, on_emulator: Session) -> None:
    batches = np.random.default_rng(6).normal(size=(2, 4, 16)).astype(np.float32)

    async def both() -> list[Any]:
        futures = [session.submit(None, {"x": batch}) for batch in batches]
        return await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))

    for batch, (outputs,) in zip(batches, asyncio.run(both()), strict=True):
        assert np.array_equal(outputs, on_emulator.run(None, {"x": batch})[0])


def test_wrong_inputs_are_refused_at_once(session: Session) -> None:
    with pytest.raises(InputError, match="must have shape"):
        session.submit(None, {"x": np.zeros((1, 15), np.float32)})


SIMULATED = [
    pytest.param(name, marks=pytest.mark.rtl) for name in OPENERS if name not in ("emulator", "cpu")
]


@pytest.fixture(params=SIMULATED)
def opener(
    request: pytest.FixtureRequest, overlay: Overlay, build_dir: Path
) -> Callable[[float], Any]:
    """Opens a device of its own, with a limit of seconds for a run."""
    if request.param.startswith("hw_emu"):
        request.getfixturevalue("xrt_library")
    make, argument = OPENERS[request.param]
    return lambda timeout_s: make(
        argument, overlay, DeviceOptions(build_dir=build_dir, timeout_s=timeout_s)
    )


@pytest.mark.usefixtures("ctrl_c")
def test_the_run_after_ctrl_c_is_right(opener, samples, expected) -> None:
    main = threading.main_thread().ident
    assert main is not None
    with opener(60) as device:
        device.run(samples(1))
        timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            device.run(samples(100_000))
        packed = samples(5, seed=1)
        assert np.array_equal(device.run(packed)[0], expected(packed))


def test_the_run_after_one_that_takes_too_long_is_right(opener, samples, expected) -> None:
    with opener(1) as device:
        device.run(samples(1))
        with pytest.raises(faults.DeviceTimeoutError, match=r"no result after 1 s"):
            device.run(samples(400_000))
        packed = samples(5, seed=1)
        assert np.array_equal(device.run(packed)[0], expected(packed))


def test_a_closed_device_says_so(opener, samples) -> None:
    device = opener(60)
    device.close()
    device.close()
    with pytest.raises(faults.DeviceAbortedError, match="is closed; open another session"):
        device.run(samples(1))
