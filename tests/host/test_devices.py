"""The same demands on every device."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_host import InputError, Session
from trencadis_host.device import DeviceOptions
from trencadis_hw.container import Overlay
from trencadis_sim.device import open_device as open_simulator
from trencadis_sim.emulator import open_device as open_emulator
from trencadis_sim.hw_emu.device import open_device as open_hw_emu

OPENERS: dict[str, tuple[Callable[..., Any], str]] = {
    "emulator": (open_emulator, ""),
    "sim": (open_simulator, ""),
    "hw_emu": (open_hw_emu, ""),
    "hw_emu:2x2": (open_hw_emu, "2x2"),
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name == "emulator" else [pytest.mark.rtl])
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
def test_results_are_those_of_the_emulator(device, words, expected, count: int) -> None:
    packed = words(count, seed=count)
    results, statistics = device.run(packed)
    assert results.dtype == np.uint8
    assert np.array_equal(results, expected(packed))
    assert statistics.words == count


def test_cycles_are_counted_in_the_kernel(device, words) -> None:
    device.run(words(16))
    _, statistics = device.run(words(16))
    if device.name == "emulator":
        assert statistics.cycles is None
        return
    assert statistics.load_cycles == 0
    assert 0 < statistics.busy_cycles < statistics.cycles
    # The array needs as long for every word, and nothing else takes longer.
    units = getattr(device, "units", 1)
    assert statistics.output_interval == pytest.approx(35 / units, rel=0.1)


def test_submitted_batches_are_all_computed(session: Session, words) -> None:
    rng = np.random.default_rng(5)
    batches = [rng.normal(size=(count, 16)).astype(np.float32) for count in (3, 1, 8, 2)]
    futures = [session.submit(None, {"x": batch}) for batch in batches]
    for batch, future in zip(batches, futures, strict=True):
        (outputs,) = future.result(60)
        (again,) = session.run(["out"], {"x": batch})
        assert outputs.shape == (len(batch), 4)
        assert np.array_equal(outputs, again)


def test_batches_are_awaited(session: Session) -> None:
    batch = np.random.default_rng(6).normal(size=(4, 16)).astype(np.float32)

    async def both() -> list[Any]:
        futures = [session.submit(None, {"x": batch}) for _ in range(2)]
        return await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))

    (first,), (second,) = asyncio.run(both())
    assert np.array_equal(first, second)
    assert np.array_equal(first, session.run(None, {"x": batch})[0])


def test_wrong_inputs_are_refused_at_once(session: Session) -> None:
    with pytest.raises(InputError, match="must have shape"):
        session.submit(None, {"x": np.zeros((1, 15), np.float32)})
